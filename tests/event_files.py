"""What stands in TensorBoard's event files."""

import struct

from tensorboardX.proto.event_pb2 import Event


def events(folder):
    """Everything in the event files of a folder, file after file."""
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:  # a record: its length, a sum over that, the record, a sum over it
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def points(folder):
    """(step, tag, value) of all that is drawn as a curve."""
    return {
        (event.step, value.tag, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    }
