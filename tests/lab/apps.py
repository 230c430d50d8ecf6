"""The real applications of a lab, unmodified and as Debian ships them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.lab import system
from tests.lab.pod import Pod

HTTP_PORT: Final = 80
DUAL_STACK_PORT: Final = 8080
REDIS_PORT: Final = 6379
FTP_PORT: Final = 21

# One line a request: who asked, at which address, for what, how it ended.
_NGINX: Final = """\
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 2048; }}
http {{
    log_format plain '$remote_addr $server_addr $request_uri $status';
    access_log {directory}/access.log plain;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_timeout 300s;
    keepalive_requests 100000;
    server {{
        listen 0.0.0.0:{http};
        listen [::]:{http} ipv6only=on;
        listen [::]:{dual} ipv6only=off;
        root {directory}/www;
        default_type text/plain;
    }}
}}
"""

_VSFTPD: Final = """\
listen=NO
listen_ipv6=YES
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
no_anon_password=YES
anon_root={directory}/ftp
secure_chroot_dir={directory}/empty
ftpd_banner={banner}
xferlog_enable=YES
vsftpd_log_file={directory}/vsftpd.log
seccomp_sandbox=NO
isolate_network=NO
"""


def start_nginx(pod: Pod, pages: dict[str, str]) -> None:
    """nginx with its own configuration and `pages`: {"index.html": "text"}."""
    www = _folder(pod.directory / "www")
    for name, text in pages.items():
        (www / name).write_text(text)
    text = _NGINX.format(directory=pod.directory, http=HTTP_PORT, dual=DUAL_STACK_PORT)
    configuration = pod.directory / "nginx.conf"
    configuration.write_text(text)
    prefix = f"{pod.directory}/"
    _start(
        pod, HTTP_PORT, "nginx", "-p", prefix, "-c", str(configuration), "-e", "stderr"
    )


def access_log(pod: Pod) -> list[list[str]]:
    """nginx's own access log: [client address, server address, path, status]."""
    log = pod.directory / "access.log"
    return [line.split() for line in log.read_text().splitlines()]


def start_redis(pod: Pod) -> None:
    """redis-server, in memory only, open to all addresses of the pod."""
    argv = ["--port", str(REDIS_PORT), "--bind", "0.0.0.0", "::"]  # noqa: S104
    argv += ["--protected-mode", "no", "--save", "", "--dir", str(pod.directory)]
    _start(pod, REDIS_PORT, "redis-server", *argv)


def start_ftp(pod: Pod, files: dict[str, str], banner: str) -> None:
    """vsftpd, which speaks first, with `files` for anonymous download."""
    root = _folder(pod.directory / "ftp")
    for name, text in files.items():
        (root / name).write_text(text)
    _folder(pod.directory / "empty")
    configuration = pod.directory / "vsftpd.conf"
    text = _VSFTPD.format(directory=pod.directory, port=FTP_PORT, banner=banner)
    configuration.write_text(text)
    _start(pod, FTP_PORT, "vsftpd", str(configuration))


def _start(pod: Pod, port: int, *argv: str) -> subprocess.Popen[str]:
    log = f"{argv[0]}.out"
    process = pod.start(*argv, log=log)
    try:
        pod.wait_listening(port)
    except system.LabError as error:
        said = (pod.directory / log).read_text().strip()
        raise system.LabError(
            f"{error}; it said: {said[-300:] or 'nothing'}"
        ) from error
    return process


def _folder(path: Path) -> Path:
    """A directory that any server's unprivileged user may read."""
    path.mkdir(mode=0o755, parents=True)
    return path
