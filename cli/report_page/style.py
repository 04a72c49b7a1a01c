"""The looks of the page: one style sheet, light and dark, on screen and on paper."""

LIGHT = """
--paper:#fdfdfc; --card:#ffffff; --ink:#1c2126; --soft:#5d6770; --rule:#dfe2e5; --grid:#eceef0;
--line:#2563a8; --line2:#b5621b; --up:#2563a8; --down:#9fbfe0; --good:#3f7d52; --bad:#b3322a; --track:#eef0f2;
--s0:#2563a8; --s1:#e0a030; --s2:#3f7d52; --s3:#a4518f; --s4:#6b7680; --s5:#c0603a; --s6:#4aa3a2; --s7:#8d7bc0;
"""
DARK = """
--paper:#14171a; --card:#1a1e22; --ink:#e6e9ec; --soft:#9aa4ad; --rule:#30363c; --grid:#262b30;
--line:#7fb2ea; --line2:#e2a066; --up:#6aa5e6; --down:#34597f; --good:#7cc495; --bad:#f08a80; --track:#272c31;
--s0:#6aa5e6; --s1:#dfa83f; --s2:#6fbb8a; --s3:#cf86ba; --s4:#8b969f; --s5:#e08a66; --s6:#62bdbb; --s7:#aa9bdd;
"""
_REST = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
 font-variant-numeric:tabular-nums}
main{max-width:1180px;margin:0 auto;padding:40px 28px 56px}
h1{font-size:30px;line-height:1.2;font-weight:600;margin:2px 0 6px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:19px;font-weight:600;margin:44px 0 4px}
h3{font-size:15px;font-weight:600;margin:0;overflow-wrap:anywhere}
p{margin:4px 0}
.over{color:var(--soft);font-size:13px;letter-spacing:.06em;text-transform:uppercase}
.note,figcaption span,dt,th,footer{color:var(--soft)}
.note{font-size:14px;max-width:76ch}
.warn{border-left:3px solid var(--bad);padding:2px 0 2px 12px;margin:14px 0;overflow-wrap:anywhere}
.phase{font-weight:600}.Succeeded{color:var(--good)}.Failed,.bad{color:var(--bad)}
.progress{display:block;width:100%;height:6px;margin:14px 0 26px}
.progress .track,.small .track{fill:var(--track)}.progress .done{fill:var(--line)}.progress .fell{fill:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:18px 24px;margin:0 0 26px}
.tiles div{border-top:1px solid var(--rule);padding-top:8px;min-width:0}
.tiles b{display:block;font-size:24px;font-weight:600;line-height:1.25}
.tiles span{color:var(--soft);font-size:13px;display:block;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 20px;margin:0;font-size:14px}
dd{margin:0;overflow-wrap:anywhere}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:26px 36px;margin-top:14px}
.charts>figure{max-width:576px;width:100%}
figure{margin:0;break-inside:avoid;min-width:0}
figcaption{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:baseline;justify-content:space-between;
 margin-bottom:6px;font-size:14px}
svg{display:block;width:100%;height:auto;overflow:visible}
.grid,.lane{stroke:var(--grid);fill:none}.axis{stroke:var(--rule);fill:none}
.tick,.unit,.none{fill:var(--soft);font-size:11.5px}.none{font-size:13px}
.line{fill:none;stroke:var(--line);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.dashed{stroke:var(--line2);stroke-width:1.6;stroke-dasharray:5 4;stroke-linecap:butt}
.dot{fill:var(--line)}
.mark path{stroke:var(--bad);stroke-dasharray:1 3;fill:none}.mark .cross{stroke-dasharray:none;stroke-width:1.6}
.strip rect,.back{fill:transparent;pointer-events:all}.strip circle{fill:none}
.strip:hover rect,.stack:hover .back{fill:var(--ink);fill-opacity:.05}
.strip:hover circle{stroke:var(--ink);stroke-width:1.4}
.up{fill:var(--up)}.down{fill:var(--down)}.good{fill:var(--good)}.fell{fill:var(--bad)}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}
.s4{fill:var(--s4)}.s5{fill:var(--s5)}.s6{fill:var(--s6)}.s7{fill:var(--s7)}
.legend{font-size:13px;color:var(--soft);display:flex;flex-wrap:wrap;gap:2px 16px}
.legend svg{display:inline-block;width:18px;height:10px;margin-right:6px}
.wide{overflow-x:auto;margin-top:14px}
.wide>svg{min-width:760px}
table{border-collapse:collapse;width:100%;font-size:14px}
th{font-weight:500;text-align:left;font-size:13px;border-bottom:1px solid var(--rule);padding:4px 18px 4px 0;
 vertical-align:bottom}
td{padding:4px 18px 4px 0;border-bottom:1px solid var(--grid);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap;padding-right:10px;width:1%}
td.b{width:14%;min-width:70px;padding-top:10px}
td.w{overflow-wrap:anywhere;unicode-bidi:isolate}
tr{break-inside:avoid}
.small{height:8px}.small rect{fill:var(--line)}
footer{margin-top:48px;padding-top:12px;border-top:1px solid var(--rule);font-size:13px;overflow-wrap:anywhere}
@media (max-width:640px){main{padding:24px 16px}dl{grid-template-columns:1fr}dd{margin-bottom:6px}}
"""
_PRINT = """
body{font-size:12px}main{max-width:none;padding:0}h2{margin-top:26px;break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.charts{grid-template-columns:1fr 1fr}.wide{overflow:visible}.wide>svg{min-width:0}
"""

STYLE_SHEET = (
    f":root{{color-scheme:light dark;{LIGHT}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}"
    f"{_REST}@media print{{{_PRINT}}}"
)
