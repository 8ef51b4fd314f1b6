"""Passes requests on to the service, and writes each as it came, without its credential.

python3 record.py http://127.0.0.1:8080 FOLDER    listens at a free port, which it prints
"""

import http.client
import http.server
import pathlib
import sys
import urllib.parse

service, folder = urllib.parse.urlsplit(sys.argv[1]).netloc, pathlib.Path(sys.argv[2])
hidden = {"host": "agent.example.com", "authorization": "Bearer KEY"}


class Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    number = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        head = [self.requestline] + [f"{name}: {hidden.get(name.lower(), value)}" for name, value in self.headers.items()]
        Recorder.number += 1
        name = f"{Recorder.number}-{self.command}{self.path.split('?')[0].replace('/', '-')}.http"
        (folder / name).write_bytes("\r\n".join(head + ["", ""]).encode() + body)
        upstream = http.client.HTTPConnection(service)
        upstream.request(self.command, self.path, body, {name: value for name, value in self.headers.items() if name.lower() != "host"})
        answer = upstream.getresponse()
        print(name, answer.status, flush=True)
        self.send_response(answer.status)
        for header, value in answer.getheaders():
            if header.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                self.send_header(header, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while piece := answer.read1():
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    do_GET = do_POST

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
