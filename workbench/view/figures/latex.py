r"""A text figure as LaTeX: tokens in `\colorbox`, for `\input` in a document and to compile alone.

Every character of the data that means anything to TeX is written as a command or in braces, so that no text can be one.
What pdfLaTeX has no letter for is written by its number; LuaLaTeX shows the letter where the font has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from workbench.view.figures.text_figure import ACCENT, MUTED, Colour, Key, Piece, Row, TextFigure

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless\wbk{}", ">": r"\textgreater\wbk{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "-": r"-\wbk{}",
    ",": r",\wbk{}", "?": r"?\wbk{}", "!": r"!\wbk{}", "[": "{[}", "]": "{]}",
    "–": r"\textendash{}", "—": r"\textemdash{}", "‘": r"\textquoteleft{}", "’": r"\textquoteright{}",  # noqa: RUF001
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}", "…": r"\textellipsis{}", "•": r"\textbullet{}",
    "−": r"\ensuremath{-}", "×": r"\ensuremath{\times}", "·": r"\textperiodcentered{}", "€": r"\texteuro{}",  # noqa: RUF001
    "→": r"\ensuremath{\rightarrow}", "←": r"\ensuremath{\leftarrow}", "↵": r"\ensuremath{\hookleftarrow}",
    "⇥": r"\ensuremath{\rightarrow}", "∎": r"\rule{.9ex}{.9ex}", "∅": r"\ensuremath{\emptyset}",
    "≥": r"\ensuremath{\geq}", "≤": r"\ensuremath{\leq}", "✓": r"\ensuremath{\surd}", "≈": r"\ensuremath{\approx}",
}  # fmt: skip
# Letters that T1 fonts have, which LaTeX reads as they are: Latin-1, and of Latin Extended-A what Europe writes with.
LETTERS = {chr(code) for code in range(0xC0, 0x100)} - {"\xd7", "\xf7"} | set(
    "ĂăĄąĆćČčĎďĐđĘęĚěĞğİıŁłŃńŇňŐőŒœŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž"
)
LONGEST = 8  # letters in a box; a longer token is several, so that lines can break

HEAD = r"""% A figure of highlighted text. Compile it alone with pdflatex or lualatex, or \input it in a document with
% \usepackage[T1]{fontenc}, \usepackage{textcomp} and \usepackage{xcolor}.
\expandafter\ifx\csname @nodocument\endcsname\relax\else
  \documentclass{article}
  \ifx\Uchar\undefined\usepackage[T1]{fontenc}\usepackage{lmodern}\usepackage{textcomp}\fi\usepackage{xcolor}
  \pagestyle{empty}
  \begin{document}
  \def\wbopen{\setbox1\vbox\bgroup}
  \def\wbalone{\egroup\setbox1\hbox{\hskip 3pt\vbox{\vskip 3pt\box1\vskip 3pt}\hskip 3pt}\hoffset=-1in\voffset=-1in
    \ifx\Uchar\undefined\pdfpagewidth=\wd1\pdfpageheight=\ht1\else\pagewidth=\wd1\pageheight=\ht1\fi
    \shipout\box1\end{document}}
  \expandafter\wbopen
\fi
\begingroup
\definecolor{wbmuted}{RGB}{MUTED}\definecolor{wbaccent}{RGB}{ACCENT}%
% A character that not every font has: shown where the font has it, else by its number.
\def\wbchar#1{\ifx\Uchar\undefined[U+#1]\else\iffontchar\font"#1 \Uchar"#1 \else[U+#1]\fi\fi}%
\def\wbdots{\color{wbmuted}\leaders\hbox to1.6pt{\hss.\hss}\hfil}%
\def\wbover#1{\setbox0\hbox{#1}\rlap{\raise1.75ex\hbox to\wd0{\wbdots}}\box0 }%
\def\wbunder#1#2{\setbox0\hbox{#2}\rlap{\textcolor[RGB]{#1}{\rule[-.42ex]{\wd0}{.8pt}}}\box0 }%
\def\wbstruck#1{\setbox0\hbox{#1}\rlap{\rule[.55ex]{\wd0}{.5pt}}\box0 }%
\def\wbbox#1#2{{\fboxsep=0pt\colorbox[RGB]{#1}{\rule[-.5ex]{0pt}{2.3ex}#2}}}%
\def\wbk{\kern0pt}% no ligature of two characters
\def\wbor{\penalty 7000 }% a line may break inside a word, where it must
\parindent=0pt\raggedright\hbadness=10000\hfuzz=2pt\emergencystretch=2em
"""
TAIL = r"""\par\endgroup
\ifx\wbalone\undefined\else\expandafter\wbalone\fi
"""


def latex(figure: TextFigure, width: float) -> str:
    """The document; `width` in points of 1/72 inch."""
    wide = width * 72.27 / 72 - 6
    out = []
    if figure.title:
        out.append(rf"{{\bfseries {_pieces([Piece(figure.title)])}\par}}\smallskip")
    for row in figure.rows:
        out.append(_row(row, any(r.label for r in figure.rows)))
    if figure.keys or figure.notes:
        out.append(r"\smallskip{\color{wbmuted}\hrule}\smallskip")
        keys = r"\quad ".join(map(_key, figure.keys))
        notes = r"\par ".join(map(escaped, figure.notes))
        out.append(rf"{{\scriptsize {keys}\par\color{{wbmuted}}{notes}\par}}")
    body = "\n".join(out)
    head = HEAD.replace("MUTED", _rgb(MUTED)).replace("ACCENT", _rgb(ACCENT))
    box = rf"\noindent\hsize={wide:.2f}pt\linewidth=\hsize\textwidth=\hsize"
    return rf"{head}{box}{chr(10)}{body}{chr(10)}{TAIL}"


def escaped(text: str) -> str:
    """Text that TeX prints as it is, whatever it holds."""
    return "".join(map(_character, text))


def _character(c: str) -> str:
    if c in SPECIAL:
        return SPECIAL[c]
    if c.isspace():
        return " "
    return c if " " <= c <= "~" or c in LETTERS else rf"\wbchar{{{ord(c):04X}}}"


def _rgb(colour: Colour) -> str:
    return ",".join(map(str, colour))


def _row(row: Row, labelled: bool) -> str:
    """A paragraph, beside its label where rows have labels."""
    size = r"\footnotesize\color{wbmuted}" if row.small else r"\small"
    text = rf"{{{size} {_pieces(row.pieces)}\par}}"
    rule = r"\smallskip{\color{wbmuted!40}\hrule height .3pt}\smallskip" if row.ruled else ""
    if not (labelled and row.label):
        return rule + text
    label = rf"\parbox[t]{{.19\hsize}}{{\raggedright\scriptsize\color{{wbmuted}}\strut {_pieces([Piece(row.label)])}}}"
    return rf"{rule}\hbox{{{label}\hskip.01\hsize\parbox[t]{{.8\hsize}}{{\raggedright{text}}}}}"


def _pieces(pieces: Sequence[Piece]) -> str:
    """Pieces one after the other; lines may break at spaces, and between pieces where a word is too long."""
    out = []
    for piece in pieces:
        for part in re.findall(r"\s+|\S+", piece.text):
            if part.isspace():
                out.append(" ")
            else:
                out += [rf"{_look(piece, cut)}\wbor{{}}" for cut in _cuts(part)]
    return "".join(out).replace(r"\wbor{} ", " ")


def _cuts(text: str) -> Iterator[str]:
    """A long text in parts between which a line may break; a character by its number counts as it is printed."""
    part, size = "", 0
    for character in text:
        own = LONGEST if _character(character).startswith(r"\wbchar") else 1
        if part and size + own > LONGEST:
            yield part
            part, size = "", 0
        part, size = part + character, size + own
    yield part


def _look(piece: Piece, text: str) -> str:
    tex = escaped(text)
    tex = rf"\textbf{{{tex}}}" if piece.bold else tex
    tex = rf"\wbstruck{{{tex}}}" if piece.struck else tex
    tex = rf"\wbunder{{{_rgb(piece.under)}}}{{{tex}}}" if piece.under else tex
    tex = rf"\wbover{{{tex}}}" if piece.over else tex
    return rf"\wbbox{{{_rgb(piece.fill)}}}{{{tex}}}" if piece.fill else tex


def _key(key: Key) -> str:
    parts = [rf"\textbf{{{escaped(key.name)}}}", escaped(key.low)]
    if key.ramp:
        each = 60 / len(key.ramp)
        ramp = "".join(rf"\textcolor[RGB]{{{_rgb(fill)}}}{{\rule{{{each:.2f}pt}}{{6pt}}}}" for fill in key.ramp)
        if key.tick is not None:
            tick = rf"\hskip{60 * key.tick:.1f}pt\textcolor{{wbaccent}}{{\rule[-1pt]{{1pt}}{{8pt}}}}\hfil"
            ramp = rf"\rlap{{{ramp}}}\hbox to60pt{{{tick}}}"
        parts.append(rf"\mbox{{{ramp}}}")
    parts += [escaped(key.high), escaped(key.note)]
    return rf"\mbox{{{' '.join(filter(None, parts))}}}"
