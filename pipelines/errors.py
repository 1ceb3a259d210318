"""The errors that a picture can meet; `worker/retry.py` says what to do about each.

Notes of an error (`add_note`) are for the log: what the decoder wrote on its standard error, or a traceback.
"""

from storage.blobs import BlobInfo


class PipelineError(Exception):
    """Anything that kept an upload from becoming variants."""


class PictureRefused(PipelineError):
    """The decoder declined the picture: `code` from the wire contract, and a sentence.

    `seen` is how the file was, if it may be one that is still being written.
    """

    def __init__(self, code: str, message: str, seen: BlobInfo | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.seen = seen


class RecipeUnknown(PipelineError):
    """The upload's recipe was known when its event came, and is no more."""


class DecoderBloated(PictureRefused):
    """Decoding took more memory than the header announced, and the decoder was killed."""

    code = "too_much_memory"

    def __init__(self) -> None:
        super().__init__(self.code, "Decoding the picture took more memory than its header announced.")


class SourceChanged(PipelineError):
    """The original was replaced or written to while it was being read."""


class DecodeTimeout(PipelineError):
    """The decoder ran past its time and was killed; `of_cpu`: past its CPU time, whoever was beside it."""

    code = "decode_timeout"

    def __init__(self, *message: str, of_cpu: bool = False) -> None:
        super().__init__(*message)
        self.of_cpu = of_cpu


class DecoderCrashed(PipelineError):
    """The decoder died, or answered what no decoder may answer, on this picture."""

    code = "decoder_crashed"


class DecoderFailed(PipelineError):
    """The decoder's own code raised an exception, which is a bug of ours; a note has its traceback."""


class WorkerKiller(PipelineError):
    """Every worker that took this upload died with it, the last one while it ran alone."""


class DecoderStarved(PipelineError):
    """The machine refused a decoder a thread, memory, a descriptor or CPU time; that may or may not be the
    picture's doing.
    """


class DecoderKilled(PipelineError):
    """A decoder was killed, and not by this program; that may or may not be the picture's doing.

    `for_memory` where the kernel says that it killed for lack of memory.
    """

    def __init__(self, reason: str, remedy: str = "", *, for_memory: bool = False) -> None:
        super().__init__(f"{reason}. {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy
        self.for_memory = for_memory


class DecoderUnavailable(PipelineError):
    """No decoder could be started; that says nothing about the picture. `remedy` is for an operator."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}. {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy
