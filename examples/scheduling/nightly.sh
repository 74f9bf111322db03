#!/bin/sh
# One scheduled flow: quiet when all went well, and what cron should mail when not. Ends with the flow's exit code.
#
#   nightly.sh PIPELINE RASTERS OUTPUTS [further options of the pipeline]
#
# GEOSEG_PYTHON: the interpreter that geoseg is installed in; else .venv of this checkout.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${GEOSEG_PYTHON:-"$here/../../.venv/bin/python"}
outputs=$3
mkdir -p "$outputs"

: >"$outputs/last.log"
# Appended, or a second flow that comes meanwhile would have the first write after a hole.
"$python" "$@" >>"$outputs/last.log" 2>&1
code=$?

case $code in
0 | 3) ;; # done; or the run before is still at it, which its own end will tell
*)
    echo "geoseg ended with $code; $outputs/summary.html tells more. The last lines:"
    tail -n 20 "$outputs/last.log"
    ;;
esac
exit "$code"
