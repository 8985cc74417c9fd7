"""Where an image's parts lie in an emulated core, and what to call an address in a message."""

from dataclasses import dataclass

from tinsmith.targets.harness import (
    FLASH_SECTION,
    PAGE_BYTES,
    MemoryLayout,
    ModelInterface,
    round_up,
)
from tinsmith.targets.image import Elf

_NEAR_POOL = 1 << 24
_NEAR = 1 << 20


@dataclass(frozen=True)
class Pool:
    """Whole pages [start, end), at whose end lies what the model uses, from `first` on."""

    what: str
    start: int
    first: int
    end: int

    @property
    def slack_bytes(self) -> int:
        return self.first - self.start

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class MemoryMap:
    """Sizes in whole pages. pools: that of the context, then those of the arenas outside it.

    flashes: (start, bytes) of each flash that holds constants only.
    """

    elf: Elf
    layout: MemoryLayout
    flash_bytes: int
    data_bytes: int
    pools: tuple[Pool, ...]
    flashes: tuple[tuple[int, int], ...]

    @property
    def context(self) -> int:
        return self.pools[0].first

    @property
    def stack_bottom(self) -> int:
        return self.layout.stack_top - self.layout.stack_bytes


def memory_map_of(
    elf: Elf, layout: MemoryLayout, pointer_bytes: int, interface: ModelInterface
) -> MemoryMap:
    flash_end = max(s + len(data) for s, data in elf.segments if s < layout.data)
    context = elf.word_at("tinsmith_h_context", pointer_bytes)
    pool_end = layout.pool + elf.word_at("tinsmith_h_pool_bytes")
    arenas = [
        Pool(f"the arena '{arena.name}'", *layout.arena_pool(interface, i))
        for i, arena in enumerate(interface.arenas)
    ]
    # A compiler may have put the few constants of a section into its code.
    names = [f"{FLASH_SECTION}{i}" for i in range(len(interface.weight_sections))]
    flashes = [elf.sections[name] for name in names if name in elf.sections]
    return MemoryMap(
        elf=elf,
        layout=layout,
        flash_bytes=round_up(flash_end - layout.flash, PAGE_BYTES),
        data_bytes=round_up(elf.address_of("tinsmith_h_bss_end") - layout.data, PAGE_BYTES),
        pools=(Pool("the context", layout.pool, context, pool_end), *arenas),
        flashes=tuple((start, round_up(size, PAGE_BYTES)) for start, size in flashes),
    )


def place(elf: Elf, address: int) -> str:
    """An address in code: the function and how far into it."""
    symbol = elf.symbol_at(address)
    return f"{address:#x}" if symbol is None else f"{symbol.name}+{address - symbol.address:#x}"


def what_lies_at(memory: MemoryMap, address: int) -> str:
    """An address of data: what it belongs to, or is next to."""
    layout = memory.layout
    for pool in memory.pools:
        if pool.first <= address < pool.end:
            return f"byte {address - pool.first} of {pool.what}"
        if pool.end <= address < pool.end + _NEAR_POOL:
            return f"{address - pool.end} bytes past the end of {pool.what}"
        if pool.start - _NEAR_POOL <= address < pool.first:
            return f"{pool.first - address} bytes before {pool.what}"
    if memory.stack_bottom - _NEAR <= address < memory.stack_bottom:
        return f"below the stack of {layout.stack_bytes} bytes"
    if memory.stack_bottom <= address < layout.stack_top:
        return f"in the stack, {layout.stack_top - address} bytes below its top"
    if layout.stack_top <= address < layout.stack_top + _NEAR:
        return "above the stack"
    if address < PAGE_BYTES:
        return "a null pointer"
    symbol = memory.elf.symbol_at(address)
    if symbol is not None:
        apart = any(start <= address < start + size for start, size in memory.flashes)
        read_only = apart or address < layout.flash + memory.flash_bytes
        name = f"{symbol.name}+{address - symbol.address:#x}"
        return f"{name}, which is read-only" if read_only else name
    if layout.data <= address < layout.data + memory.data_bytes + _NEAR:
        return "past the model's variables"
    return "nothing lies there"
