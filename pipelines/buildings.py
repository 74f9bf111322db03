"""Buildings of every new or changed raster in a folder. Meant for cron, a systemd timer or a workflow engine.

    python pipelines/buildings.py RASTERS OUTPUTS [options of `geoseg extract`]

Ends with the gravest exit code of its runs: 0 all done, 1 parts missing, 2 some refused, 3 some locked,
4 environment, 130 stopped. What each run did is in OUTPUTS/<raster>.report.json.
"""

from folder import flow

if __name__ == "__main__":
    raise SystemExit(flow("buildings", "Extract buildings from a folder of rasters."))
