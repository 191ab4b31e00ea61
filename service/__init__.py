"""The HTTP service that answers with every champion."""
