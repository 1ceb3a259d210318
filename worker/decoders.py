"""Which decoders a worker has by its settings, and their parent, which may start before the worker."""

from pipelines.allowance import Allowance
from pipelines.errors import DecoderUnavailable
from pipelines.formats import MIB
from pipelines.sandbox.fork_server import ForkServer, config_of
from worker.limits import OF_A_PROCESS
from worker.settings import LEAST_MEMORY_MB, Settings


def _limit_of(settings: Settings) -> str:
    limit = settings.memory_limit
    return OF_A_PROCESS if limit and limit.by == OF_A_PROCESS else "the container's memory limit"


def allowance(settings: Settings) -> Allowance:
    """The limits of a picture by the settings. Raises: DecoderUnavailable if memory is too small for one."""
    if settings.budget_mb < LEAST_MEMORY_MB:
        raise DecoderUnavailable(
            f"{_limit_of(settings)} of {settings.budget_mb} MiB is too small for a decoder",
            f"Raise it to {LEAST_MEMORY_MB} MiB at least, better to 512.",
        )
    return Allowance(
        decoders=settings.decoders,
        memory=settings.budget_mb * MIB,
        max_source_bytes=settings.max_source_bytes,
        max_pixels=settings.max_pixels,
        image_timeout_s=settings.image_timeout,
        accept_damaged=settings.damaged == "accept",
        confinement=settings.confinement,
        isolation=settings.isolation,
        formats=settings.formats,
    )


def spawn(settings: Settings) -> ForkServer | None:
    """Start the parent of decoders, which sets itself up while the rest of a worker is imported.

    None where that cannot be: the worker starts it then, and says what is wrong.
    """
    try:
        return ForkServer.spawn(config_of(allowance(settings)))
    except DecoderUnavailable:
        return None
