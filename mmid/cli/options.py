"""The options that commands share, and what stands for those left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from mmid.errors import label
from mmid.identify.search_options import SearchOptions, keys_to_try
from mmid.options import FARTHEST, BaselineName, LibraryKind, Search, Side, Vote
from mmid.system.start import loading_modules

if TYPE_CHECKING:
    from mmid.identify.identifier import Identifier
    from mmid.index.protocol import Library
    from mmid.model.checkpoint import Checkpoint

Folders = Annotated[
    list[Path], typer.Argument(help="Read the MIDI files below these folders.", show_default=False)
]


def _complete_device(incomplete: str) -> list[str]:
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


def _complete_model(incomplete: str) -> list[str]:
    from mmid.model.registry import read_registry

    files = [str(path) for path in Path().glob("*.safetensors")]
    return [name for name in [*read_registry().models, *files] if name.startswith(incomplete)]


def complete_soundfont(incomplete: str) -> list[str]:
    """Complete the name of an installed soundfont."""
    from mmid.music.synthesizer import find_soundfonts

    return [path.name for path in find_soundfonts() if path.name.startswith(incomplete)]


Device = Annotated[
    str,
    typer.Option(
        help="Compute on cpu, cuda or mps; auto takes a GPU if there is one.",
        rich_help_panel="Machine",
        autocompletion=_complete_device,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Use this many worker processes; all cores by default.",
        rich_help_panel="Machine",
    ),
]
Soundfonts = Annotated[
    list[str] | None,
    typer.Option(
        "--soundfont",
        help="Render with this .sf2 or .sf3 file, or installed soundfont; repeatable.",
        show_default="those installed",
        autocompletion=complete_soundfont,
    ),
]
MODEL_HELP = "Use this model: a name, a .safetensors file, or hf://OWNER/REPO."
"""The brackets of the whole form would be taken for markup; docs/weights.md has it."""


def _complete_index(incomplete: str) -> list[str]:
    begun = Path(incomplete + "*")
    return [str(path) for path in begun.parent.glob(begun.name) if path.is_dir()]


def _index_option(panel: str | None) -> Any:
    return typer.Option(
        "--index",
        envvar="MMID_INDEX",
        help="Use this index: a folder, milvus://HOST:PORT/NAME or milvus:FILE.db/NAME.",
        metavar="PLACE",
        autocompletion=_complete_index,
        show_default="in the user's data folder",
        rich_help_panel=panel,
    )


Index = Annotated[str | None, _index_option(None)]
SearchedIndex = Annotated[str | None, _index_option("Search")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="MMID_SERVER",
        metavar="URL",
        help="Query a running mmid serve, which has its index and model loaded.",
        show_default=False,
        rich_help_panel="Search",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        envvar="MMID_MODEL",
        metavar="MODEL",
        help=MODEL_HELP,
        show_default="the packaged one",
        rich_help_panel="Machine",
        autocompletion=_complete_model,
    ),
]


@dataclass(frozen=True, kw_only=True)
class ModelGroup:
    """The model, and where it computes."""

    model: Model = None
    device: Device = "auto"

    def load(self) -> Checkpoint:
        """Load the model."""
        from mmid.model.encoders import pick_device
        from mmid.model.loading import load_model

        return load_model(self.model, pick_device(self.device))


def check_transpose(text: str) -> str:
    """Refuse what is neither ``auto`` nor a number of semitones of which there is a key."""
    try:
        if text == "auto" or abs(int(text)) <= FARTHEST:
            return text
    except ValueError:
        pass
    reach = f"-{FARTHEST} to {FARTHEST}, 12 an octave"
    raise typer.BadParameter(f"{text!r}: give auto, or whole semitones from {reach}")


JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")]


def _has_a_folder(path: Path | None) -> Path | None:
    """Refuse, before work begins, a file whose folder is missing."""
    if path and not path.parent.is_dir():
        raise typer.BadParameter(f"no folder {label(path.parent)}; make it first")
    return path


OutFile = Annotated[
    Path | None,
    typer.Option(
        help="Write every result to this JSON file.", dir_okay=False, callback=_has_a_folder
    ),
]
JunitFile = Annotated[
    Path | None,
    typer.Option(
        help="Write a JUnit report to this XML file: a suite for each clip length.",
        dir_okay=False,
        callback=_has_a_folder,
    ),
]
AnnotateFlag = Annotated[
    bool, typer.Option("--annotations", help="Print GitHub annotations after the tables.")
]


KindOption = Annotated[
    LibraryKind,
    typer.Option(help="Index MIDI files or recordings; auto takes MIDI files where there are any."),
]
TransposeOption = Annotated[
    str,
    typer.Option(
        "--transpose",
        metavar="[auto|SEMITONES]",
        help="Say how many semitones the recording is above the score; auto finds out.",
        callback=check_transpose,
        rich_help_panel="Search",
    ),
]


@dataclass(frozen=True, kw_only=True)
class SearchGroup:
    """How the index is searched."""

    search: Annotated[
        Search,
        typer.Option(
            help="Search all snippets (exact) or the nearest lists (hnsw); auto decides by size.",
            rich_help_panel="Search",
        ),
    ] = SearchOptions.search
    vote: Annotated[
        Vote,
        typer.Option(
            help="Count only votes that agree on a position (consistent), or all (majority).",
            rich_help_panel="Search",
        ),
    ] = SearchOptions.vote
    transpose: TransposeOption = "auto"

    def options(self, **more: Any) -> SearchOptions:
        """Return these, and those of more that were given, as the library takes them."""
        keys = keys_to_try("auto" if self.transpose == "auto" else int(self.transpose))
        given = {name: value for name, value in more.items() if value is not None}
        return SearchOptions(search=self.search, vote=self.vote, keys=keys, **given)


Top = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Show this many matches, also those of 0 %.",
        show_default="up to 5, none of 0 %",
        rich_help_panel="Output",
    ),
]
SideOption = Annotated[
    Side, typer.Option(help="Render this part of the files: 75 % are train, 5 % valid, 20 % test.")
]


def _check_baselines(names: list[str] | None) -> list[str] | None:
    for name in names or []:
        if name not in get_args(BaselineName):
            known = ", ".join(get_args(BaselineName))
            raise typer.BadParameter(f"{name!r} is not one of {known}.")
    return names


def _complete_baseline(incomplete: str) -> list[str]:
    return [name for name in get_args(BaselineName) if name.startswith(incomplete)]


BaselineOption = Annotated[
    list[str] | None,  # Typer takes no list of literals
    typer.Option(
        "--baseline",
        metavar="[" + "|".join(get_args(BaselineName)) + "]",
        help="Query this baseline with the same clips; repeatable.",
        callback=_check_baselines,
        autocompletion=_complete_baseline,
        show_default=False,
    ),
]


def parse_sizes(text: str) -> list[int]:
    """Read sizes as a user gives them, ascending."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise typer.BadParameter(f"{text!r}: give whole numbers, such as 1000,100000")
    return sorted(sizes)


def open_identifier(
    index: str | None, chosen: ModelGroup, options: SearchOptions = SearchOptions()
) -> tuple[Identifier, Library]:
    """Load a model and the index made with it."""
    with loading_modules():
        from mmid.identify.identifier import Identifier
        from mmid.index.store import store_at

    loaded = chosen.load()
    opened = store_at(index).open(loaded)
    return Identifier(loaded, opened, options), opened
