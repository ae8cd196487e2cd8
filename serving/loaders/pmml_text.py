"""The text of a PMML file, held against what may stand in it before any reader of XML gets it."""

from __future__ import annotations

import codecs
import re
from xml.parsers import expat

from serving.core.errors import InvalidArgument

_MOST_LEVELS = 250  # each is a call inside a call in who reads it and computes it
_ENCODING = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_ENCODINGS = frozenset(
    {"ascii", "big5", "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "koi8-r", "koi8-u"}
    | {"shift_jis", "utf-16", "utf-16-be", "utf-16-le", "utf-8", "utf-8-sig"}
    | {f"cp{number}" for number in range(1250, 1259)}
    | {f"iso8859-{number}" for number in range(1, 17) if number != 12}
)
"""Python's names of those that readers of XML know; of its others, many are no character sets."""


def pmml_text(name: str, content: bytes) -> str:
    """The document, whole and with PMML as its root element.

    Raises InvalidArgument for any other, and for one that declares a document type: entities of
    that can read other files and grow without bound, and PMML needs none.
    """
    text = _decoded(name, content)
    check = _Check(name)
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = check.document_type
    parser.StartElementHandler = check.element
    parser.EndElementHandler = check.element_end
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise InvalidArgument(f"{name} is no whole XML document: {error}") from error
    return text


class _Check:
    """What a document must not have; raises InvalidArgument where it has it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._level = 0

    def document_type(self, *_: object) -> None:
        raise InvalidArgument(
            f"{self._name} declares a document type, as no PMML file needs and none may here"
        )

    def element(self, tag: str, _: object) -> None:
        if self._level == 0 and tag.rpartition(":")[2] != "PMML":
            raise InvalidArgument(f"{self._name} is no PMML document: its root element is {tag}")
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise InvalidArgument(f"{self._name} has more than {_MOST_LEVELS} levels of elements")

    def element_end(self, _: str) -> None:
        self._level -= 1


def _decoded(name: str, content: bytes) -> str:
    declared = _ENCODING.match(content)
    encoding = declared[1].decode() if declared else "utf-8"
    for mark, marked in _MARKS:
        if content.startswith(mark):
            encoding = marked
    try:
        if codecs.lookup(encoding).name not in _ENCODINGS:
            raise LookupError(encoding)
        return content.decode(encoding)
    except (LookupError, UnicodeError) as error:
        raise InvalidArgument(f"{name} is no text in {encoding}") from error
