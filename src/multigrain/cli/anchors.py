"""`multigrain anchors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multigrain.cli.console import print_json, quieten_libraries
from multigrain.cli.options import JsonOption
from multigrain.errors import ConfigError

if TYPE_CHECKING:
    from multigrain.model.anchors import AnchoredText

_BAR = 24
# From no colour to strong, by the share of the text's heaviest token.
_SHADES = ("", "on grey93", "on light_goldenrod2", "on gold1", "on dark_orange", "on red1")


def anchors(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="One or more texts, each in quotes.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A model folder, a hub id, package:NAME, or auto.")
    ] = "auto",
    reduce: Annotated[
        Literal["sum", "log", "mean", "diagonal"],
        typer.Option(help="How attention becomes a weight, for models without ATA pooling."),
    ] = "log",
    heads: Annotated[
        Literal["mean", "max"], typer.Option(help="How heads are joined, for models without ATA pooling.")
    ] = "mean",
    top: Annotated[int, typer.Option(min=1, help="List this many of the heaviest tokens.")] = 10,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the tokens a text's vector is anchored to, with their weights.

    The weights of a model with ATA pooling are those it pools with. Any other model is read as if it had ATA pooling.
    """
    if not all(text.strip() for text in texts):
        raise ConfigError("anchors: got an empty text; give each text in quotes, e.g. multigrain anchors 'a red fox'")
    quieten_libraries()
    from multigrain.model import anchors as reading
    from multigrain.model.encoder import load
    from multigrain.model.pooling import AtaOptions
    from multigrain.model.replacing import pooling_name

    encoder = load(model, trust_remote_code=trust_remote_code)
    anchored_texts = reading.anchors(encoder, texts, options=AtaOptions(reduce=reduce, heads=heads))
    if as_json:
        print_json(
            {"model": model, "pooling": pooling_name(encoder), "texts": [_plain(text) for text in anchored_texts]}
        )
        return
    screen = Console(highlight=False, emoji=False)
    for anchored in anchored_texts:
        _show(screen, anchored, top)


def _plain(anchored: AnchoredText) -> dict[str, object]:
    tokens = [{"token": token.token, "weight": round(token.weight, 6)} for token in anchored.tokens]
    return {"text": anchored.text, "tokens": tokens}


def _show(screen: Console, anchored: AnchoredText, top: int) -> None:
    """A line of shaded tokens where there are colours, and the heaviest tokens with a bar each."""
    heaviest = max(token.weight for token in anchored.tokens)
    if screen.is_terminal:
        line = Text()
        for token in anchored.tokens:
            shade = _SHADES[min(len(_SHADES) - 1, int(token.weight / heaviest * len(_SHADES)))]
            line.append(f" {token.token} ", style=f"black {shade}" if shade else "")
        screen.print(line)
    else:
        screen.print(anchored.text, markup=False, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="dim")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dark_orange")
    ranked = sorted(enumerate(anchored.tokens, start=1), key=lambda entry: -entry[1].weight)
    for position, token in ranked[:top]:
        bar = "█" * max(1, round(token.weight / heaviest * _BAR))
        table.add_row(str(position), Text(token.token), f"{token.weight:.3f}", bar)
    screen.print(table)
    screen.print()
