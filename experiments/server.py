"""A server in Python, for clients of this project to talk to: `python3 experiments/server.py`."""

import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 1060))
    print("Python listens at", server.getsockname(), flush=True)
    while True:
        datagram, client = server.recvfrom(65_507)
        print("Python got", datagram, flush=True)
        server.sendto(b"Your data was %d bytes long" % len(datagram), client)
