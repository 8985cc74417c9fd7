"""A linked image: its symbols, and what of it the model costs in flash and RAM."""

import bisect
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinsmith.targets.harness import ARENA_SECTION, FLASH_SECTION, ModelInterface
from tinsmith.targets.target import Target

WeightSymbols = Container[str] | Callable[[str], bool]
Form = Literal["elf", "semihosted", "shared", "program"]
SUFFIXES: dict[Form, str] = {
    "elf": ".elf",
    "semihosted": ".elf",
    "shared": ".so",
    "program": ".program",
}
EMULATORS: dict[Form, str] = {
    "elf": "unicorn",
    "semihosted": "qemu",
    "shared": "host",
    "program": "host",
}
_SHF_ALLOC = 2


@dataclass(frozen=True)
class Sizes:
    """Bytes that the model costs; the harness and its start-up are not counted.

    weight_bytes: the symbols named as weights. code_bytes: all other flash of the model, that is
    functions with their literal pools, tables, the library routines that they pull in, alignment,
    and the initial values of .data. data_bytes and bss_bytes: the model's own variables in RAM.
    context_bytes: sizeof(<name>_t), which holds the arena. arena_bytes: of arenas outside it.
    outer_flash_bytes: what of weights and code lies in flashes of their own.
    """

    code_bytes: int
    weight_bytes: int
    data_bytes: int
    bss_bytes: int
    context_bytes: int
    arena_bytes: int = 0
    outer_flash_bytes: int = 0

    @property
    def flash_bytes(self) -> int:
        return self.code_bytes + self.weight_bytes

    @property
    def ram_bytes(self) -> int:
        """All RAM but the stack."""
        return self.context_bytes + self.arena_bytes + self.data_bytes + self.bss_bytes


@dataclass(frozen=True)
class Symbol:
    """A function or an object; `address` is without the Thumb bit."""

    name: str
    address: int
    size: int
    kind: Literal["function", "object"]


@dataclass(frozen=True)
class Image:
    """What a compilation made.

    `form`: "elf" runs in unicorn, "semihosted" in QEMU, "shared" and "program" on this computer.

    `sizes` is None for the host, whose library has parts that no firmware has.
    """

    path: Path
    form: Form
    target: Target
    interface: ModelInterface
    toolchain: str
    sizes: Sizes | None = None

    @property
    def emulator(self) -> str:
        """What runs it: "unicorn", "qemu" or "host"."""
        return EMULATORS[self.form]


class Elf:
    """The read-only view of an ELF file that runners and checks need."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as f:
            elf = ELFFile(f)
            self.segments: tuple[tuple[int, bytes], ...] = tuple(
                (segment["p_paddr"], segment.data())
                for segment in elf.iter_segments()
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
            )
            self.sections: dict[str, tuple[int, int]] = {
                section.name: (section["sh_addr"], section["sh_size"])
                for section in elf.iter_sections()
                if section["sh_flags"] & _SHF_ALLOC
            }
            table = elf.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection), path
            is_arm = elf["e_machine"] == "EM_ARM"
            symbols: list[Symbol] = []
            marks: list[tuple[int, str]] = []
            values: dict[str, int] = {}
            for entry in table.iter_symbols():
                name, value = entry.name, int(entry["st_value"])
                kind = entry["st_info"]["type"]
                if name[:2] in ("$t", "$d", "$x", "$a"):
                    marks.append((value, name[1]))
                elif kind == "STT_FUNC":
                    address = value & ~1 if is_arm else value
                    symbols.append(Symbol(name, address, entry["st_size"], "function"))
                    values[name] = address
                elif kind == "STT_OBJECT":
                    symbols.append(Symbol(name, value, entry["st_size"], "object"))
                    values[name] = value
                elif name and entry["st_shndx"] != "SHN_UNDEF":
                    values[name] = value
        self.symbols = tuple(sorted(symbols, key=lambda s: s.address))
        self.marks = tuple(sorted(marks))
        self._values = values
        self._starts = [s.address for s in self.symbols]

    def address_of(self, name: str) -> int:
        return self._values[name]

    def has(self, name: str) -> bool:
        return name in self._values

    def bytes_at(self, address: int, size: int) -> bytes:
        """What the image holds at an address in flash; shorter where the image ends before."""
        for start, data in self.segments:
            if start <= address < start + len(data):
                return data[address - start : address - start + size]
        raise AssertionError(f"{address:#x} is not in flash")

    def word_at(self, name: str, size: int = 4) -> int:
        """The little-endian value of a constant."""
        return int.from_bytes(self.bytes_at(self.address_of(name), size), "little")

    def symbol_at(self, address: int) -> Symbol | None:
        """The symbol that covers an address, None where there is none."""
        i = bisect.bisect_right(self._starts, address) - 1
        while i >= 0 and not self.symbols[i].size:
            i -= 1
        if i >= 0 and address < self.symbols[i].address + self.symbols[i].size:
            return self.symbols[i]
        return None


def measure_sizes(elf: Elf, weight_symbols: WeightSymbols) -> Sizes:
    """Account for an image that was linked with the harness's linker script."""
    first_byte = elf.address_of("tinsmith_h_model_start")
    last_byte = elf.address_of("tinsmith_h_model_end")
    data_bytes = elf.sections.get(".data", (0, 0))[1]
    bss_bytes = elf.sections.get(".bss", (0, 0))[1]
    flashes = _sections_named(elf, FLASH_SECTION)
    outer_bytes = sum(size for _, size in flashes)
    flash_bytes = last_byte - first_byte + data_bytes + outer_bytes
    places = [(first_byte, last_byte - first_byte), *flashes]
    is_weight = weight_symbols if callable(weight_symbols) else weight_symbols.__contains__
    weight_bytes = 0
    end = 0
    # The linker may give two equal constants one address: count what is covered, once.
    for symbol in elf.symbols:
        in_flash = any(start <= symbol.address < start + size for start, size in places)
        if symbol.kind == "object" and in_flash and is_weight(symbol.name):
            first = max(symbol.address, end)
            end = max(end, symbol.address + symbol.size)
            weight_bytes += max(0, symbol.address + symbol.size - first)
    return Sizes(
        code_bytes=flash_bytes - weight_bytes,
        weight_bytes=weight_bytes,
        data_bytes=data_bytes,
        bss_bytes=bss_bytes,
        context_bytes=elf.word_at("tinsmith_h_context_bytes"),
        arena_bytes=sum(size for _, size in _sections_named(elf, ARENA_SECTION)),
        outer_flash_bytes=outer_bytes,
    )


def _sections_named(elf: Elf, prefix: str) -> list[tuple[int, int]]:
    return [where for name, where in elf.sections.items() if name.startswith(prefix)]
