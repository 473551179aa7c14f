"""The image as a network sees it: the tensor that "first" stands for, found by what is done to it, not by what follows.

A network often changes its image before any layer: it scales it, normalises it, lays it out in another way. Where the origin is
depends on that, and so does what "radial" means. The image as the network sees it is the last tensor

- that holds the image number by number: made from what forward was handed by shifts and factors that do not depend on the image (or
  only through its mean, deviation and the like), a normalisation layer, clipping, a change of type or of layout, and nothing else;
- through which every path from the image to the logits leads, so that its gradient is the whole gradient.

It is the image that forward was handed if nothing was done to it, or something else (a resize, a convolution of whatever class) first.
"""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SHIFTS = "add sub subtract rsub neg negative __neg__ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__"
FACTORS = "mul multiply div divide true_divide __mul__ __rmul__ __imul__ __truediv__ __itruediv__"
LAYOUT = "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze contiguous clone pixel_unshuffle channel_shuffle"
MOVED = set("permute transpose movedim moveaxis swapaxes swapdims t __get__".split())  # views whose axes are in another order
CHOSEN = {"__getitem__", "flip"}
TYPES = "to float double half bfloat16 type type_as cpu cuda"
NORMALISATIONS = "batch_norm layer_norm instance_norm group_norm rms_norm dropout clamp clip"
KEEPING = {name for group in (SHIFTS, FACTORS, LAYOUT, TYPES, NORMALISATIONS) for name in group.split()} | MOVED | CHOSEN
STATISTICS = set("mean std var std_mean var_mean sum norm vector_norm amin amax min max median quantile".split())
OF_STATISTICS = set("sqrt rsqrt square pow __pow__ reciprocal __rtruediv__ maximum minimum abs expand expand_as".split())


def leads_to(start: Tensor, end, around=None) -> bool:
    """Does a path of the graph lead from `start` down to `end`, a node or a leaf, that does not go through the node `around`?"""
    seen, stack = {around}, [start.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if node is end or getattr(node, "variable", None) is end:
            return True
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)
    return False


def _keeps_samples(name: str, args, copy: Tensor, made: Tensor) -> bool:
    """Is the batch still the first axis, in its order?"""
    if name == "__getitem__":
        start = args[1][0] if isinstance(args[1], tuple) and args[1] else None
        return start is Ellipsis or (isinstance(start, slice) and start == slice(None))
    if name == "flip":
        dims = [d for arg in args[1:] for d in ([arg] if isinstance(arg, int) else arg)]
        return bool(dims) and all(d % copy.dim() for d in dims)
    return made.shape[:1] == copy.shape[:1] and (name not in MOVED or made.stride(0) == copy.stride(0))


class FollowImage(TorchFunctionMode):
    """While active, keeps every tensor that holds `image` number by number; `seen` then chooses among them.

    image: what forward is handed, requiring a gradient
    """

    def __init__(self, image: Tensor):
        super().__init__()
        self.image, self.end = image, image if image.grad_fn is None else image.grad_fn
        self.copies: dict[int, Tensor] = {id(image): image}  # in the order in which they were made; kept alive, so ids stay theirs
        self.nodes = {id(image): image.grad_fn}  # of the copies; torch makes another one for a view whose base is written to later
        self.statistics: dict[int, Tensor] = {}
        self.versions: dict[int, int] = {}  # of each copy when something was first made of it

    def holds(self, value: Tensor) -> bool:
        return id(value) in self.copies

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        handed = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if any(id(value) in self.copies or id(value) in self.statistics for value in handed):
            made = [value for value in (result if isinstance(result, tuple | list) else (result,)) if isinstance(value, Tensor)]
            if made:
                self._note(getattr(func, "__name__", ""), args, handed, made)
        return result

    def _note(self, name: str, args, handed: list[Tensor], made: list[Tensor]) -> None:
        copies = [value for value in handed if self.holds(value)]
        if made[0] is handed[0]:  # overwritten in place
            if self.holds(made[0]) and torch.is_grad_enabled():  # else it is the same link of the chain with other numbers
                self._keep(made[0])
        elif name in STATISTICS or not copies:
            if name in KEEPING | STATISTICS | OF_STATISTICS and self._rest_is_free(handed):
                self.statistics |= {id(value): value for value in made if value.numel() < self.image.numel()}
        else:
            if made[0].requires_grad:
                for copy in copies:
                    self.versions.setdefault(id(copy), copy._version)
            if self._is_copy(name, args, copies, handed, made):
                self._keep(made[0])

    def _keep(self, copy: Tensor) -> None:
        self.copies.pop(id(copy), None)
        self.copies[id(copy)], self.nodes[id(copy)] = copy, copy.grad_fn

    def _is_copy(self, name: str, args, copies: list[Tensor], handed: list[Tensor], made: list[Tensor]) -> bool:
        if name not in KEEPING or len(copies) != 1 or len(made) != 1 or made[0].numel() != copies[0].numel():
            return False
        if not _keeps_samples(name, args, copies[0], made[0]):
            return False
        divides = "div" in name and handed[0] is not copies[0]  # a constant by the image
        return not divides and self._rest_is_free(handed)

    def _rest_is_free(self, handed: list[Tensor]) -> bool:
        """Does nothing but the copy and statistics of it depend on the image?"""
        return not any(
            value.requires_grad and not self.holds(value) and id(value) not in self.statistics and leads_to(value, self.end)
            for value in handed
        )

    def seen(self, logits: Tensor) -> Tensor:
        """The last of the copies through which all paths from `logits` to the image lead."""
        for copy in reversed(self.copies.values()):
            node = self.nodes[id(copy)]
            if copy.requires_grad and (copy is self.end or node is self.end or not leads_to(logits, self.end, node)):
                return copy
        raise ValueError("the model changes its image in place and uses it unchanged too; make that operation out of place")
