"""A server that speaks S3, on a port of this machine, with the buckets of the tests.

Prints its address, and ends with its standard input.
"""

import logging
import sys

import boto3
from moto.server import ThreadedMotoServer

# Each request, that is.
logging.getLogger("werkzeug").disabled = True
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
address = f"http://{host}:{port}"
client = boto3.client(
    "s3",
    endpoint_url=address,
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
for bucket in ("backups", "versions"):
    client.create_bucket(Bucket=bucket)
client.put_bucket_versioning(
    Bucket="versions", VersioningConfiguration={"Status": "Enabled"}
)
print(address, flush=True)
sys.stdin.read()
server.stop()
