"""assess (edge): report what a client's containers found of bodies with the others' last layers on them.

The probe of bodies is `components.heads`; what is reported is what `components.probe` reports.
"""

from __future__ import annotations

from components.command import run_command
from components.probe import tell

if __name__ == "__main__":
    run_command("assess", tell)
