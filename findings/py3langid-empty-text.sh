#!/usr/bin/env bash
# py3langid 0.4.0: an empty text is Afrikaans (guessed: none, or a uniform guess), with the lowest float as its score;
# a text of digits is "zxx", no language. Whoever drops texts of other languages drops empty ones as Afrikaans.
# Output seen: ('af', -3.4028234663852886e+38), ('zxx', 0.60).
source "$(dirname "$0")/_run.sh"
in_environment py3langid==0.4.0 numpy==2.4.6 <<'PY'
import py3langid

empty, digits = py3langid.classify(""), py3langid.classify("12345")
print(empty, digits)
assert empty[0] == "af"
assert empty[1] < -1e30
assert digits[0] == "zxx"
PY
