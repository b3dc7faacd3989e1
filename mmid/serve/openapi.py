"""The HTTP API's own description, as OpenAPI has it: ``GET /openapi.json``."""

from __future__ import annotations

from typing import Any

from mmid.version import __version__

Schema = dict[str, Any]

TEXT, NUMBER, WHOLE, YES_NO = ({"type": t} for t in ("string", "number", "integer", "boolean"))
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
MAYBE_WHOLE: Schema = {"type": ["integer", "null"]}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
MAYBE_SPAN: Schema = {"type": ["array", "null"], "items": NUMBER}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _given(name: str, schema: Schema, description: str) -> Schema:
    """Return a parameter of the address."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _route(
    summary: str,
    result: Schema,
    media_type: str = "application/json",
    *,
    given: tuple[Schema, ...] = (),
    body: Schema | None = None,
) -> Schema:
    refused = {"description": "Refused, in a line.", "content": _content(_ref("Error"))}
    done = {"description": "Done.", "content": _content(result, media_type)}
    route: Schema = {"summary": summary, "responses": {"200": done, "default": refused}}
    if given:
        route["parameters"] = list(given)
    if body:
        route["requestBody"] = {"required": True, "content": body}
    return route


def _content(schema: Schema, media_type: str = "application/json") -> Schema:
    return {media_type: {"schema": schema}}


RECORDING = _content({"type": "string", "format": "binary"}, "application/octet-stream")
EVENTS = "text/event-stream"
NAME = _given("name", TEXT, "What the file is called; a MIDI file by its suffix.")
OFFSET = _given("offset", WHOLE, "The first to list.")
LIMIT = _given("limit", WHOLE, "How many to list, 500 at most.")
SPAN = (
    NAME,
    _given("start", NUMBER, "Skip so many seconds."),
    _given("duration", NUMBER, "Use so many seconds; to the end by default."),
)
SEARCH = (
    _given("top", WHOLE, "Matches to return, 100 at most."),
    _given("transpose", TEXT, "auto, or semitones from -24 to 24."),
    _given("min_confidence", NUMBER, "A match counts as found from here on, 0 to 1."),
    _given("search", {"enum": ["auto", "exact", "hnsw"]}, "How snippets are looked up."),
    _given("vote", {"enum": ["consistent", "majority"]}, "Which votes count."),
    _given("shown", {"enum": ["1"]}, "Add what the page shows and plays."),
)

MATCH = _object(
    piece=TEXT,
    confidence=NUMBER,
    votes=NUMBER,
    explained=MAYBE_NUMBER,
    lead=NUMBER,
    above=NUMBER,
    start=MAYBE_NUMBER,
    end=MAYBE_NUMBER,
    tempo_ratio=NUMBER,
    transpose=WHOLE,
    also=_list(TEXT),
    title=MAYBE_TEXT,
    start_bar=MAYBE_WHOLE,
    start_beat=MAYBE_WHOLE,
    end_bar=MAYBE_WHOLE,
    end_beat=MAYBE_WHOLE,
    figures={"type": "object", "additionalProperties": MAYBE_NUMBER},
)
ANSWER = _object(
    query=TEXT,
    seconds=NUMBER,
    matched=YES_NO,
    verdict=TEXT,
    sentence=TEXT,
    matches=_list(_ref("Match")),
    tuning=WHOLE,
    error=MAYBE_TEXT,
    reason=MAYBE_TEXT,
    keys=_list(WHOLE),
    stretch=MAYBE_SPAN,
    shown=_object(html=TEXT, notes=_list(_list(NUMBER)), midi=MAYBE_TEXT, csv=TEXT),
)
PIECE = _object(name=TEXT, title=MAYBE_TEXT, seconds=NUMBER, snippets=WHOLE, copies=_list(TEXT))
LIBRARY = _object(
    kind=MAYBE_TEXT,
    items=WHOLE,
    hours=NUMBER,
    folders=_list(TEXT),
    left_out=WHOLE,
    index=TEXT,
    found=WHOLE,
    pieces=_list(PIECE),
)
LEFT_OUT = _object(found=WHOLE, files=_list(_object(name=TEXT, reason=TEXT)))
BUILT = _object(what=TEXT, error=MAYBE_TEXT, items=WHOLE, added=WHOLE, left_out=WHOLE)

PATHS: Schema = {
    "/identify": {
        "post": _route(
            "Say what a recording or a MIDI file, the body, is.",
            _ref("Answer"),
            given=(*SPAN, *SEARCH),
            body=RECORDING,
        )
    },
    "/timeline": {
        "post": _route(
            "Say what is played in a long recording: events progress, then timeline or error.",
            TEXT,
            EVENTS,
            given=(NAME, _given("every", NUMBER, "Windows of so many seconds are looked up.")),
            body=RECORDING,
        )
    },
    "/sound": {
        "post": _route("Return a recording as MP3.", TEXT, "audio/mpeg", given=(NAME,))
        | {"requestBody": {"required": True, "content": RECORDING}}
    },
    "/library": {
        "get": _route(
            "List what is indexed.",
            _ref("Library"),
            given=(_given("search", TEXT, "Words of a name or a title."), OFFSET, LIMIT),
        )
    },
    "/library/left-out": {
        "get": _route("List what could not be indexed, and why.", LEFT_OUT, given=(OFFSET, LIMIT))
    },
    "/library/remove": {
        "post": _route(
            "Take pieces, or a folder that is followed, out of the library.",
            _object(removed=_list(TEXT)),
            body=_content(_object(names=_list(TEXT))),
        )
    },
    "/build": {
        "post": _route(
            "Add a folder of the server's machine; without one, read again those it follows."
            " The answer comes when it is done; events say how far it is.",
            BUILT,
            body=_content(_object(folder=MAYBE_TEXT)),
        ),
        "delete": _route("Cancel the change under way.", _object(cancelled=YES_NO)),
    },
    "/events": {"get": _route("Events status: queries, and the change under way.", TEXT, EVENTS)},
    "/openapi.json": {"get": _route("This description.", {"type": "object"})},
}

DESCRIPTION: Schema = {
    "openapi": "3.1.0",
    "info": {
        "title": "mmid",
        "version": __version__,
        "description": "Names the MIDI file in a library that a recording is a performance of.",
    },
    "paths": PATHS,
    "components": {
        "schemas": {
            "Error": _object(error=TEXT),
            "Match": MATCH,
            "Answer": ANSWER,
            "Library": LIBRARY,
        },
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    },
    "security": [{}, {"token": []}],
}
