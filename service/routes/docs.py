"""The API's description for people, without anything from the internet."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """A page that reads /openapi.json and lets requests be tried."""
    return HTMLResponse(page())


@cache
def page() -> str:
    """The page's HTML; styles and script are inside."""
    return files("service").joinpath("static", "docs.html").read_text(encoding="utf-8")
