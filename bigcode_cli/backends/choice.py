"""Which backend the options mean, and the one line that says so where it is not the fast one."""

from bigcode_cli.backends.gpus import may_have_gpu
from bigcode_cli.errors import UsageError
from bigcode_cli.kernels.native.library import is_built, load_error
from bigcode_cli.records import LoadOptions, Reporter

_NOT_BUILT = "was not built when this program was installed"

_told: set[str] = set()


def wants_native(options: LoadOptions, report: Reporter) -> bool:
    """Whether the native engine is to do it: asked for, or on a CPU unless PyTorch is.

    Raises:
        UsageError: it is asked for, and is not here or contradicts another option.
    """
    if options.backend == "native":
        _require_native(options)
        return True
    # Kernels of attention are PyTorch's, and who asks for one is to get it.
    if options.backend == "torch" or options.attention != "auto" or not _means_cpu(options.device):
        return False
    if (wrong := _what_is_wrong()) is not None:
        tell_once(report, f"the native engine {wrong}, so decoding is slower")
        return False
    return True


def tell_once(report: Reporter, text: str) -> None:
    """Note what is true of the whole process: a second model is no reason to say it again."""
    if text not in _told:
        _told.add(text)
        report.note(text)


def _require_native(options: LoadOptions) -> None:
    kind = options.device.partition(":")[0]
    if kind not in {"auto", "cpu"}:
        raise UsageError(
            f"the native backend computes on the CPU, not on {kind}",
            "use --device cpu, or --backend torch",
        )
    if options.attention != "auto":
        raise UsageError(
            f"--attention {options.attention} is a kernel of PyTorch's, and the native backend "
            "has its own",
            "leave it out, or use --backend torch",
        )
    if (wrong := _what_is_wrong()) is not None:
        raise UsageError(
            f"the native engine {wrong}",
            "install bigcode-cli again where there is a C++ compiler, or use --backend torch",
        )


def _what_is_wrong() -> str | None:
    if not is_built():
        return _NOT_BUILT
    error = load_error()
    return None if error is None else f"does not load here ({error})"


def _means_cpu(device: str) -> bool:
    if device != "auto":
        return device == "cpu"
    if not may_have_gpu():
        return True
    from bigcode_cli.backends.devices import choose_device

    return choose_device(device).type == "cpu"
