"""How passes change a graph: an editor of its nodes, and rules applied until none fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tinsmith.pipeline.graph import (
    NO_ATTRS,
    Array,
    DType,
    Graph,
    Node,
    QuantParams,
    Tensor,
    rebuild,
)
from tinsmith.pipeline.ops import OPS, OpCall


class Editor:
    """A mutable copy of a graph's nodes and tensors; `build` makes a graph of it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Tensor] = dict(graph.tensors)
        self.order: list[str] = [n.name for n in graph.nodes]
        self.nodes: dict[str, Node] = {n.name: n for n in graph.nodes}
        self._producers: dict[str, str] = {}
        self._readers: dict[str, dict[str, None]] = {}
        self._live = graph.live_outputs()
        for node in graph.nodes:
            self._link(node)

    def _link(self, node: Node) -> None:
        for out in node.outputs:
            self._producers[out] = node.name
        for name in filter(None, node.inputs):
            self._readers.setdefault(name, {})[node.name] = None

    def _unlink(self, node: Node) -> None:
        for out in node.outputs:
            if self._producers.get(out) == node.name:
                del self._producers[out]
        for name in filter(None, node.inputs):
            self._readers[name].pop(node.name, None)

    def producer(self, tensor: str) -> Node | None:
        name = self._producers.get(tensor)
        return None if name is None else self.nodes[name]

    def readers(self, tensor: str) -> tuple[Node, ...]:
        return tuple(self.nodes[n] for n in self._readers.get(tensor, ()))

    def is_live(self, tensor: str) -> bool:
        """True of outputs and of what becomes state."""
        return tensor in self._live

    def read_once(self, tensor: str) -> bool:
        """True where one node reads the tensor and nobody else sees it."""
        return len(self._readers.get(tensor, ())) == 1 and not self.is_live(tensor)

    def call(self, node: Node) -> OpCall:
        ins = tuple(self.tensors[i] if i else None for i in node.inputs)
        return OpCall(node.name, node.attrs, ins, tuple(self.tensors[o] for o in node.outputs))

    def fresh_tensor(self, wish: str) -> str:
        return _fresh(wish, self.tensors)

    def fresh_node(self, wish: str) -> str:
        return _fresh(wish, self.nodes)

    def append(self, node: Node) -> None:
        self.nodes[node.name] = node
        self.order.append(node.name)
        self._link(node)

    def constant(self, wish: str, data: Array, quant: QuantParams | None = None) -> str:
        name = self.fresh_tensor(wish)
        self.tensors[name] = Tensor(name, data.shape, DType.of(data), quant, data)
        return name

    def replace(self, old: Node, new: Node) -> None:
        """Puts a node of the same name where another was."""
        assert old.name == new.name
        self._unlink(old)
        self.nodes[new.name] = new
        self._link(new)

    def remove(self, node: Node) -> None:
        self._unlink(node)
        del self.nodes[node.name]
        self.order.remove(node.name)

    def insert(
        self,
        before: Node,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        out: str,
        like: Tensor,
    ) -> str:
        """Adds a node with one output before another and returns the output's name.

        out: a wish for the name. like: the tensor whose type and scale the output has.
        """
        name = self.fresh_node(f"{out}_{op}")
        ins = tuple(self.tensors[i] if i else None for i in inputs)
        (spec,) = OPS[op].infer(OpCall(name, attrs, ins, ()))
        tensor = self.fresh_tensor(out)
        self.tensors[tensor] = Tensor(tensor, spec.shape, like.dtype, like.quant)
        node = Node(name, op, tuple(inputs), (tensor,), attrs)
        self.nodes[name] = node
        self.order.insert(self.order.index(before.name), name)
        self._link(node)
        return tensor

    def redirect(self, old: str, new: str) -> bool:
        """Makes every reader of `old` read `new`, and lets `old` go; False where that can't be.

        Outputs keep their names: where `old` is one, `new` takes its name.
        """
        if not self.is_live(old):
            for node in self.readers(old):
                self.replace(node, _with_input(node, old, new))
            return True
        source = self.producer(new)
        if source is None or self.is_live(new):
            return False
        blocker = self.producer(old)
        assert blocker is not None
        self.remove(blocker)
        self.tensors[old] = replace(self.tensors[new], name=old)
        for node in self.readers(new):
            self.replace(node, _with_input(node, new, old))
        outputs = tuple(old if o == new else o for o in source.outputs)
        self.replace(source, replace(source, outputs=outputs))
        return True

    def sweep(self) -> None:
        """Removes the nodes that nothing reads."""
        for name in reversed(list(self.order)):
            node = self.nodes[name]
            if not any(self._readers.get(o) or self.is_live(o) for o in node.outputs):
                self.remove(node)

    def build(self) -> Graph:
        self.sweep()
        return rebuild(
            self.graph,
            nodes=[self.nodes[n] for n in self.order],
            tensors=self.tensors.values(),
        )


def _fresh(wish: str, taken: dict[str, Any]) -> str:
    name, count = wish, 1
    while name in taken:
        name, count = f"{wish}_{count}", count + 1
    return name


def _with_input(node: Node, old: str, new: str) -> Node:
    return replace(node, inputs=tuple(new if i == old else i for i in node.inputs))


Rule = Callable[[Editor, Node], bool]


def apply_rules(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph after the first rule that fits is applied, node by node, until none does.

    A rule changes the editor and says True, or leaves it as it is and says False.
    """
    editor = Editor(graph)
    changed = True
    while changed:
        changed = False
        for name in list(editor.order):
            # A rule may change a node again and again, or remove it.
            while name in editor.nodes and any(r(editor, editor.nodes[name]) for r in rules):
                changed = True
        editor.sweep()
    return editor.build()
