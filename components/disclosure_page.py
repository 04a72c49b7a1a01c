"""The privacy report as one HTML page, in the looks of a run's report: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1c2126; --soft: #5d6770; --rule: #d9dde1;
  --bad: #b3322a; --line: #2563a8; --track: #eef0f2; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec;
  --soft: #9aa4ad; --rule: #363d44; --bad: #f08a80; --line: #7fb2ea; --track: #272c31; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font-variant-numeric: tabular-nums;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 40px 28px 56px; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 600; margin: 2px 0 6px; }
h2 { font-size: 19px; font-weight: 600; margin: 36px 0 6px; }
h1, td, dd, .warn { overflow-wrap: anywhere; }
.over, .note, th, .tiles span { color: var(--soft); font-size: 13px; }
.warn { border-left: 3px solid var(--bad); padding: 2px 0 2px 12px; margin: 0 0 8px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 18px 24px; }
.tiles div { border-top: 1px solid var(--rule); padding-top: 8px; min-width: 0; }
.tiles b { display: block; font-size: 24px; font-weight: 600; line-height: 1.25; }
.tiles span { display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 400; }
td.n, th.n { text-align: right; }
svg { display: block; width: 100%; height: 10px; margin: 2px 0 10px; }
.track { fill: var(--track); } .bar { fill: var(--line); }
"""
_CLAIM = (
    "Releasing bits makes images harder to reconstruct. It gives no meaningful guarantee for an image as "
    "a whole at an accuracy that anybody would use; the figures below are bounds and experiments."
)


def page_of(report: Mapping[str, Any]) -> str:
    """Give the page of a report as `disclosure.disclose` makes it."""
    job = report["job"]
    name = f"{job['namespace']}/{job['name']}"
    body = "".join(
        (
            f"<p class=over>Privacy report</p><h1>{escape(name)}</h1>",
            f"<p class=note>{escape(_CLAIM)}</p>",
            *(f"<p class=warn>{escape(each)}</p>" for each in report["warnings"]),
            f"<h2>What was released</h2>{_tiles(report)}",
            f"<h2>What an attacker saw</h2>{_leakage(report['leakage'])}",
            f"<h2>Edges</h2>{_edges(report)}",
            f"<h2>Settings that counted</h2>{_pairs(report['effective'])}",
            f"<h2>What the model is worth</h2>{_pairs(report['metrics'])}",
        )
    )
    head = f"<meta charset=utf-8><title>Privacy of {escape(name)}</title><style>{_STYLE}</style>"
    return (
        f"<!doctype html><html lang=en><head>{head}</head><body><main>{body}</main></body></html>\n"
    )


def _tiles(report: Mapping[str, Any]) -> str:
    tiles = (
        (
            report["eps_bit"],
            f"epsilon of a bit ({_short(report['eps_bit_plato_sue'])} as Plato's SUE)",
        ),
        (report["p"], "chance that a bit is told as it is"),
        (report["r"], "bits of an image"),
        (report["eps_image"], "epsilon of an image"),
        (report["eps_total"], "epsilon of an image, all its releases"),
        (report["information_bytes"], "bytes that a release can tell of its image, at most"),
        (report["image_bytes"], "bytes of an image's own file, on average"),
        (report["images"], "images"),
        (report["labels"]["count"], "labels, in the clear"),
    )
    shown = (f"<div><b>{_short(value)}</b><span>{escape(of)}</span></div>" for value, of in tiles)
    return f"<div class=tiles>{''.join(shown)}</div>"


def _leakage(leakage: Mapping[str, Any]) -> str:
    linkage, inversion = leakage["linkage"], leakage["inversion"]
    parts = []
    if linkage is not None:
        parts.append(
            f"<p>The right one of {linkage['candidates']} images was found by its release "
            f"{linkage['top1']:.1%} of the time; guessing finds it {linkage['chance']:.2%}.</p>"
            + _bar(linkage["top1"])
        )
    if inversion is not None:
        parts.append(
            f"<p>A linear guess of the pixels recovers {inversion['variance_recovered']:.1%} of the "
            "variance that the mean image leaves (mean squared error "
            f"{inversion['mse']:.4f}, blind {inversion['blind_mse']:.4f}; correlation "
            f"{inversion['correlation']:.2f}). It is a lower bound: a better attack sees more.</p>"
            + _bar(inversion["variance_recovered"])
        )
    return "".join(parts) or "<p>Nothing was tried.</p>"


def _bar(share: float) -> str:
    width = 100 * min(1.0, max(0.0, share))
    return (
        '<svg viewBox="0 0 100 2" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class=track width="100" height="2"></rect>'
        f'<rect class=bar width="{width:.2f}" height="2"></rect></svg>'
    )


def _edges(report: Mapping[str, Any]) -> str:
    columns = ("edge", "taken", "images", "duplicates", "dropped", "epsilon", "eps_total")
    rows: Iterable[list[Any]] = (
        [*(each[name] for name in columns), each["labels"]["count"]] for each in report["releases"]
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in (*columns, "labels"))
    body = "".join(
        "<tr>" + "".join(f"<td>{_short(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    dropped = "".join(
        f"<p class=note>{escape(client)} is not in it: {escape(reason)}</p>"
        for client, reason in report["dropped_clients"].items()
    )
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>{dropped}"


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{_short(value)}</td></tr>"
        for name, value in sorted(values.items())
    )
    return f"<div class=wide><table>{rows}</table></div>" if rows else "<p>Nothing.</p>"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))
