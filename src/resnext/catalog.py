"""The names people use for networks, read and printed, and the networks that have a place here.

The paper writes ``ResNeXt-50 (32×4d)``, code writes ``resnext50_32x4d``; both are one `Notation`.
"""

import difflib
import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from resnext.errors import NotationError, ResNextError, SpecError
from resnext.families import (
    IMAGENET_BLOCKS,
    cifar,
    imagenet,
    is_cifar_depth,
    wide_resnet,
    wide_template,
)
from resnext.spec import Shortcut, Spec
from resnext.template import Template, shorten

Family = Literal["imagenet", "cifar", "wide"]

_HEAD = re.compile(
    r"(pre(?:-?act(?:ivation)?)?[-_ ]?)?(resnext|resnet)[-_ ]?([0-9]{1,4})(?![0-9])", re.IGNORECASE
)
_WIDE = re.compile(
    r"(?:wrn|wide[-_ ]?resnet)[-_ ]?([0-9]{1,4})[-_]([0-9]{1,4})(?![0-9])", re.IGNORECASE
)
_IN_PARENTHESES = re.compile(r"\s*\(([^()]+)\)")
_OPTIONS = {
    "template": re.compile(r"([0-9]+[x×][0-9]+d)", re.IGNORECASE),
    "family": re.compile(r"(cifar|imagenet)", re.IGNORECASE),
    "shortcut": re.compile(r"shortcut[- ]?(a|b|c|none)|no[- ]?shortcuts?", re.IGNORECASE),
    "classes": re.compile(r"([1-9][0-9]{0,6})[ ]?class(?:es)?", re.IGNORECASE),
    "in_channels": re.compile(r"([1-9][0-9]{0,6})[ ]?channels?", re.IGNORECASE),
}
_SHORTCUTS: dict[str, Shortcut] = {"a": "A", "b": "B", "c": "C", "none": "none"}
_DEFAULT_CLASSES: dict[Family, int] = {"imagenet": 1000, "cifar": 10, "wide": 10}
_GRAMMAR = "a network such as 'ResNeXt-50 (32x4d)', 'resnext50_32x4d', 'ResNet-101' or 'WRN-28-10'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """The parts of a name. ``template`` of a Wide ResNet is 1 x 16k, from its widening factor k."""

    family: Family
    depth: int
    template: Template
    preactivation: bool = False
    shortcut: Shortcut = "B"
    classes: int = 1000
    in_channels: int = 3

    @classmethod
    def parse(cls, text: str) -> "Notation":
        """Read a name in any of its notations.

        Raises:
            NotationError: it names no network of a known family.
            SpecError: it does, but no such network can exist.
        """
        text = text.strip()
        if wide := _WIDE.match(text):
            options = _read_options(text, wide.end())
            return cls._wide(int(wide[1]), int(wide[2]), options, text)._with(options)
        head = _HEAD.match(text)
        if head is None:
            raise NotationError(f"expected {_GRAMMAR}, found {shorten(text)!r}{_suggestion(text)}")
        options = _read_options(text, head.end())
        template = Template(1, 64)
        if "template" in options:
            template = Template.parse(options["template"])
        elif head[2].lower() == "resnext":
            raise NotationError(
                f"expected a template, as in '{head[0]} (32x4d)', found none in {shorten(text)!r}"
            )
        found = replace(
            cls._plain(int(head[3]), template, options), preactivation=head[1] is not None
        )
        if "template" not in options and found._is_ambiguous:
            raise NotationError(
                f"expected a template, as in '{head[0]} (1x16d, CIFAR)', found none in "
                f"{shorten(text)!r}: such names usually mean narrower networks of He et al., "
                "which have none here"
            )
        return found._with(options)

    @classmethod
    def _wide(cls, depth: int, widening: int, options: dict[str, str], text: str) -> "Notation":
        template = wide_template(widening)
        # torchvision's wide_resnet50_2 is ResNet-50 with its bottleneck twice as wide.
        is_plain = depth in IMAGENET_BLOCKS and (depth - 4) % 6 != 0
        for kind in ("template",) if is_plain else ("template", "family"):
            if kind in options:
                raise NotationError(
                    f"expected no {kind} behind a Wide ResNet, found {shorten(text)!r}"
                )
        if is_plain:
            return cls._plain(depth, template.scaled(4), options)
        return cls(family="wide", depth=depth, template=template, preactivation=True)

    @classmethod
    def _plain(cls, depth: int, template: Template, options: dict[str, str]) -> "Notation":
        family: Family = "imagenet"
        if options.get("family") == "cifar" or (
            "family" not in options and depth not in IMAGENET_BLOCKS and is_cifar_depth(depth)
        ):
            family = "cifar"
        return cls(family=family, depth=depth, template=template)

    @property
    def _is_ambiguous(self) -> bool:
        """Whether a template has to be said: all for CIFAR but ResNet-29, which Fig. 7 has."""
        fig7 = self.depth == 29 and not self.preactivation
        return self.family == "cifar" and is_cifar_depth(self.depth) and not fig7

    def _with(self, options: dict[str, str]) -> "Notation":
        return replace(
            self,
            shortcut=_SHORTCUTS[options.get("shortcut", "b")],
            classes=int(options.get("classes", _DEFAULT_CLASSES[self.family])),
            in_channels=int(options.get("in_channels", 3)),
        )

    def spec(self) -> Spec:
        """The network that this names.

        Raises:
            SpecError: no such network can exist.
        """
        options: dict[str, Any] = {
            "shortcut": self.shortcut,
            "classes": self.classes,
            "in_channels": self.in_channels,
        }
        if self.family == "wide":
            return wide_resnet(self.depth, self.template.width // 16, **options)
        if self.family == "imagenet" and self.depth not in IMAGENET_BLOCKS:
            raise SpecError(
                f"expected an ImageNet depth ({', '.join(map(str, IMAGENET_BLOCKS))}) or a CIFAR "
                f"depth of 9n+2 (11, 20, 29, ...), found {self.depth}"
            )
        build = imagenet if self.family == "imagenet" else cifar
        return build(self.depth, self.template, preactivation=self.preactivation, **options)

    @property
    def says_classes(self) -> bool:
        """Whether the name says a number of classes other than the family's usual one."""
        return self.classes != _DEFAULT_CLASSES[self.family]

    def usual(self) -> "Notation":
        """The same network for the family's usual classes and colour images."""
        return replace(self, classes=_DEFAULT_CLASSES[self.family], in_channels=3)

    def paper(self) -> str:
        """As the paper writes it: ``ResNeXt-50 (32×4d)``."""
        head = f"{self._stem('PreAct-', 'ResNeXt', 'ResNet')}-{self.depth}"
        if self.family == "wide":
            head = f"WRN-{self.depth}-{self.template.width // 16}"
        parts = self._options(" ")
        if self._shows_template:
            parts.insert(0, f"{self.template.cardinality}×{self.template.width}d")
        return f"{head} ({', '.join(parts)})" if parts else head

    def identifier(self) -> str:
        """As code writes it, fit for a file name: ``resnext50_32x4d``."""
        head = f"{self._stem('preact_', 'resnext', 'resnet')}{self.depth}"
        if self.family == "wide":
            head = f"wrn{self.depth}_{self.template.width // 16}"
        template = [str(self.template)] if self._shows_template else []
        options = [part.lower() for part in self._options("")]
        if self.family == "cifar" and self.depth not in IMAGENET_BLOCKS:
            options.remove("cifar")
        return "_".join([head, *template, *options])

    @property
    def _shows_template(self) -> bool:
        plain = self.family == "imagenet" and self.template == Template(1, 64)
        return self.family != "wide" and not plain

    def _stem(self, preact: str, aggregated: str, single: str) -> str:
        name = aggregated if self.template.cardinality > 1 else single
        return preact + name if self.preactivation else name

    def _options(self, space: str) -> list[str]:
        parts = ["CIFAR"] if self.family == "cifar" else []
        if self.shortcut == "none":
            parts.append(f"no{space}shortcut")
        elif self.shortcut != "B":
            parts.append(f"shortcut{space}{self.shortcut}")
        if self.says_classes:
            parts.append(f"{self.classes}{space}classes")
        if self.in_channels != 3:
            parts.append(f"{self.in_channels}{space}channel{'s' if self.in_channels > 1 else ''}")
        return parts


def _read_options(text: str, start: int) -> dict[str, str]:
    """What follows the head: ``(a, b)``, ``, a, b`` or ``_a_b``; each kind at most once."""
    rest = text[start:]
    if not rest:
        return {}
    inside = _IN_PARENTHESES.fullmatch(rest)
    if inside is None and ("(" in rest or ")" in rest):
        raise NotationError(
            f"expected one pair of parentheses with options between, found {shorten(text)!r}"
        )
    if inside or rest[0] in ", ":
        listed = inside[1] if inside else rest.lstrip(" ").removeprefix(",")
        tokens = [token.strip() for token in listed.split(",")]
    elif rest[0] in "_-":
        tokens = re.split(r"[_-]", rest[1:])
    else:
        tokens = [rest]
    options: dict[str, str] = {}
    for token in tokens:
        kind, value = _read_option(token)
        if kind is None:
            raise NotationError(
                "expected one of: a template CxWd such as 32x4d, CIFAR, ImageNet, "
                "shortcut A/B/C, no shortcut, K classes, N channels; "
                f"found {shorten(token)!r} in {shorten(text)!r}"
            )
        if kind in options:
            what = kind.replace("in_channels", "number of channels")
            raise NotationError(
                f"expected only one {what}, found {options[kind]!r} and {value!r} in "
                f"{shorten(text)!r}"
            )
        options[kind] = value
    return options


def _read_option(token: str) -> tuple[str | None, str]:
    for kind, pattern in _OPTIONS.items():
        if match := pattern.fullmatch(token):
            return kind, (match[1] or "none").lower()
    return None, ""


def _suggestion(text: str) -> str:
    close = difflib.get_close_matches(
        text.lower(), [entry.identifier for entry in CATALOG], n=1, cutoff=0.8
    )
    return f"; did you mean '{close[0]}'?" if close else ""


def spec(text: str | Spec, *, classes: int | None = None, in_channels: int | None = None) -> Spec:
    """The exact specification that a name stands for; a `Spec` passes through.

    Args:
        text: any notation, such as ``ResNeXt-50 (32×4d)`` or ``resnext29_8x64d``.
        classes: replaces the number of classes, where given.
        in_channels: replaces the number of image channels, where given.

    Raises:
        NotationError: the text names no network.
        SpecError: no such network can exist.
    """
    if not isinstance(text, str | Spec):
        raise NotationError(f"expected a network's name or a Spec, found {text!r}")
    found = text if isinstance(text, Spec) else Notation.parse(text).spec()
    return replace(
        found,
        classes=found.classes if classes is None else classes,
        in_channels=found.in_channels if in_channels is None else in_channels,
    )


def notation(network: Spec) -> Notation | None:
    """The name of a specification, or None for one that no notation can say."""
    stage = network.stages[0]
    if len(stage.paths) != 1:
        return None
    total = sum(s.blocks for s in network.stages) * len(stage.paths[0].kernels)
    families: tuple[tuple[Family, int], ...] = (
        ("imagenet", total + 2),
        ("cifar", total + 2),
        ("wide", total + 4),
    )
    for family, depth in families:
        candidate = Notation(
            family=family,
            depth=depth,
            template=stage.paths[0].template,
            preactivation=network.preactivation,
            shortcut=network.shortcut,
            classes=network.classes,
            in_channels=network.in_channels,
        )
        try:
            if candidate.spec() == network:
                return candidate
        except ResNextError:
            continue
    return None


def name(network: Spec) -> str:
    """``ResNeXt-50 (32×4d)``; a network without a notation is called custom, with a digest."""
    found = notation(network)
    return found.paper() if found else f"custom network {_digest(network)}"


def identifier(network: Spec) -> str:
    """``resnext50_32x4d``; fit for a file name, equal for equal specifications."""
    found = notation(network)
    return found.identifier() if found else f"custom-{_digest(network)}"


def _digest(network: Spec) -> str:
    text = json.dumps(network.to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Entry:
    """A network with a place here: its name and where it comes from."""

    identifier: str
    source: str

    @property
    def spec(self) -> Spec:
        """The specification."""
        return spec(self.identifier)


CATALOG: tuple[Entry, ...] = (
    Entry("resnet18", "He et al. 2016; torchvision, timm"),
    Entry("resnet34", "He et al. 2016; torchvision, timm"),
    Entry("resnet50", "Tables 1, 3, 6, 8; torchvision, timm"),
    Entry("resnext50_2x40d", "Table 3"),
    Entry("resnext50_4x24d", "Table 3"),
    Entry("resnext50_8x14d", "Table 3"),
    Entry("resnext50_32x4d", "Tables 1, 3, 6, 8; torchvision, timm"),
    Entry("resnet50_noshortcut", "Sec. 5.1, residual connections"),
    Entry("resnext50_32x4d_noshortcut", "Sec. 5.1, residual connections"),
    Entry("resnet101", "Tables 3 to 6, 8; torchvision, timm"),
    Entry("resnext101_2x40d", "Table 3"),
    Entry("resnext101_4x24d", "Table 3"),
    Entry("resnext101_8x14d", "Table 3"),
    Entry("resnext101_32x4d", "Tables 3, 4, 6, 8; timm"),
    Entry("resnet101_1x100d", "Table 4, wider"),
    Entry("resnext101_2x64d", "Table 4"),
    Entry("resnext101_64x4d", "Tables 4, 5; torchvision, timm"),
    Entry("resnext101_32x8d", "torchvision, timm"),
    Entry("resnet152", "He et al. 2016; torchvision, timm"),
    Entry("resnext152_32x4d", "pycls, mmpretrain"),
    Entry("resnet200", "post-activation; timm"),
    Entry("preact_resnet50", "He et al. 2016, Identity Mappings"),
    Entry("preact_resnet101", "He et al. 2016, Identity Mappings"),
    Entry("preact_resnet152", "He et al. 2016, Identity Mappings"),
    Entry("preact_resnet200", "Tables 4, 5"),
    Entry("resnet50_1x128d", "torchvision's and timm's wide_resnet50_2"),
    Entry("resnet101_1x128d", "torchvision's and timm's wide_resnet101_2"),
    Entry("resnet50_5000classes", "Table 6"),
    Entry("resnext50_32x4d_5000classes", "Table 6"),
    Entry("resnet101_5000classes", "Table 6"),
    Entry("resnext101_32x4d_5000classes", "Table 6"),
    Entry("resnet29_1x64d", "Fig. 7"),
    Entry("resnext29_2x64d", "Fig. 7"),
    Entry("resnext29_4x64d", "Fig. 7"),
    Entry("resnext29_8x64d", "Table 7, Fig. 7"),
    Entry("resnext29_16x64d", "Table 7, Fig. 7"),
    Entry("resnext29_8x64d_100classes", "Table 7, CIFAR-100"),
    Entry("resnext29_16x64d_100classes", "Table 7, CIFAR-100"),
    Entry("resnet29_1x128d", "Fig. 7, wider"),
    Entry("resnet29_1x192d", "Fig. 7, wider"),
    Entry("resnet29_1x256d", "Fig. 7, wider"),
    Entry("wrn28_10", "Table 7"),
    Entry("wrn28_10_100classes", "Table 7, CIFAR-100"),
)
