"""Where an image's parts lie in an emulated core, and what to call an address in a message."""

from dataclasses import dataclass

from tinsmith.targets.harness import MemoryLayout
from tinsmith.targets.image import Elf

PAGE_BYTES = 4096
_NEAR_CONTEXT = 1 << 24
_NEAR = 1 << 20


@dataclass(frozen=True)
class MemoryMap:
    """Sizes in whole pages. The context lies at the end of the pool, after `slack_bytes`."""

    elf: Elf
    layout: MemoryLayout
    flash_bytes: int
    data_bytes: int
    pool_bytes: int
    context: int

    @property
    def slack_bytes(self) -> int:
        return self.context - self.layout.pool

    @property
    def pool_end(self) -> int:
        return self.layout.pool + self.pool_bytes

    @property
    def stack_bottom(self) -> int:
        return self.layout.stack_top - self.layout.stack_bytes


def memory_map_of(elf: Elf, layout: MemoryLayout, pointer_bytes: int) -> MemoryMap:
    flash_end = max(start + len(data) for start, data in elf.segments)
    return MemoryMap(
        elf=elf,
        layout=layout,
        flash_bytes=_pages(flash_end - layout.flash),
        data_bytes=_pages(elf.address_of("tinsmith_h_bss_end") - layout.data),
        pool_bytes=elf.word_at("tinsmith_h_pool_bytes"),
        context=elf.word_at("tinsmith_h_context", pointer_bytes),
    )


def place(memory: MemoryMap, address: int) -> str:
    """An address in code: the function and how far into it."""
    symbol = memory.elf.symbol_at(address)
    return f"{address:#x}" if symbol is None else f"{symbol.name}+{address - symbol.address:#x}"


def what_lies_at(memory: MemoryMap, address: int) -> str:
    """An address of data: what it belongs to, or is next to."""
    layout = memory.layout
    if memory.context <= address < memory.pool_end:
        return f"byte {address - memory.context} of the context"
    if memory.pool_end <= address < memory.pool_end + _NEAR_CONTEXT:
        return f"{address - memory.pool_end} bytes past the end of the context"
    if layout.pool - _NEAR_CONTEXT <= address < memory.context:
        return f"{memory.context - address} bytes before the context"
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
        read_only = address < layout.flash + memory.flash_bytes
        name = f"{symbol.name}+{address - symbol.address:#x}"
        return f"{name}, which is read-only" if read_only else name
    if layout.data <= address < layout.data + memory.data_bytes + _NEAR:
        return "past the model's variables"
    return "nothing lies there"


def _pages(size: int) -> int:
    return (size + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1)
