"""Read by every Python of the image mlflow at its start: what MLflow and warnings say is JSON lines too."""

import logging
import sys

from json_lines import JsonLines

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonLines())
logging.basicConfig(handlers=[handler], level=logging.WARNING)
logging.captureWarnings(True)
