"""DIR's SDK for Python against the server at the URL given."""

import logging
import sys

import grpc
from agntcy.dir_sdk.client import Client, Config
from agntcy.dir_sdk.models import core_v1
from google.protobuf.json_format import ParseDict

LIMIT = 4 << 20

# The SDK logs each error that is expected here.
logging.disable(logging.CRITICAL)


def record(number, fill=10):
    data = {"name": "agent", "schema_version": "1.0.0", "n": number, "fill": "x" * fill}
    return ParseDict({"data": data}, core_v1.Record())


def expect(code, words, call):
    """The call fails with this status, somewhere in the chain of causes."""
    try:
        call()
    except Exception as error:
        cause = error
        while cause is not None and not isinstance(cause, grpc.RpcError):
            cause = cause.__cause__ or cause.__context__
        assert cause is not None, f"no status behind {error!r}"
        assert cause.code() == code, f"{cause.code()}: {cause.details()}"
        assert words in cause.details(), cause.details()
        return
    raise AssertionError(f"wanted {code} with {words!r}, and it succeeded")


def main(url):
    client = Client(Config(server_address=url.removeprefix("http://")))
    records = [record(number) for number in range(1000)]
    refs = client.push(records)
    assert len(refs) == len(set(ref.cid for ref in refs)) == 1000, len(refs)
    metas = client.lookup(refs)
    assert [meta.cid for meta in metas] == [ref.cid for ref in refs]
    assert metas[0].schema_version == "1.0.0", metas[0]
    assert client.pull(refs) == records

    missing = core_v1.RecordRef(cid=refs[0].cid[:-4] + "aaaa")
    expect(grpc.StatusCode.INVALID_ARGUMENT, "record is nil", lambda: client.push([core_v1.Record()]))
    expect(grpc.StatusCode.INTERNAL, "already exists", lambda: client.push([records[0]]))
    expect(grpc.StatusCode.NOT_FOUND, "", lambda: client.pull([missing]))
    expect(grpc.StatusCode.NOT_FOUND, "", lambda: client.lookup([missing]))
    expect(
        grpc.StatusCode.INVALID_ARGUMENT,
        "record cid is required",
        lambda: client.lookup([core_v1.RecordRef()]),
    )

    around = record(0, LIMIT).ByteSize() - LIMIT
    large = client.push([record(0, LIMIT - around)])
    assert client.pull(large)[0].ByteSize() == LIMIT
    expect(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "received message larger than max",
        lambda: client.push([record(0, LIMIT - around + 1)]),
    )

    client.delete(refs + large)
    expect(grpc.StatusCode.NOT_FOUND, "", lambda: client.lookup(refs[:1]))
    print("the SDK for Python and this crate agree")


main(sys.argv[1])
