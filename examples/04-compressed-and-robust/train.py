"""An honest client: trains the digits classifier of digits.py on its own data."""

from digits import Digits

import fedloom

fedloom.main(Digits)
