"""Ships in every new or changed raster of a folder. Meant for cron, a systemd timer or a workflow engine.

    python pipelines/ships.py RASTERS OUTPUTS [--settings FILE] [--aoi AREA] [--merged NAME] [--scheduler ADDRESS]

Ends with the exit code of the run: 0 all done, 1 parts or rasters missing, 2 bad input, 3 another flow is at work,
4 environment, 130 stopped; after 4 and 130 the same command goes on. What became of each raster is in
OUTPUTS/summary.json and OUTPUTS/summary.html.
"""

from folder import flow

if __name__ == "__main__":
    raise SystemExit(flow("ships", "Extract ships from a folder of rasters."))
