// The server of the benchmark: `serve PORT`. One thread, one epoll loop.

#include "bulk.h"

static int greet(struct stream *s)
{
	ssize_t got = recv(s->fd, (char *)&s->header + s->at,
			   sizeof s->header - s->at, 0);
	if (got <= 0)
		return got < 0 && errno == EAGAIN ? 0 : -1;
	s->at += (size_t)got;
	if (s->at < sizeof s->header)
		return 0;
	s->at = 0;
	s->state = RUNNING;
	if (s->header.purpose == SINK || s->header.purpose == SOURCE) {
		if (send(s->fd, "!", 1, MSG_NOSIGNAL) != 1)
			return -1;
		s->since = now() + s->header.milliseconds * 1000000ull;
	}
	if (s->header.purpose == SOURCE)
		watch(s, EPOLL_CTL_MOD, EPOLLOUT);
	return 0;
}

static int echo(struct stream *s)
{
	ssize_t got = recv(s->fd, scratch, MESSAGE, 0);
	if (got <= 0)
		return got < 0 && errno == EAGAIN ? 0 : -1;
	if (send(s->fd, scratch, (size_t)got, MSG_NOSIGNAL) != got)
		return -1;
	s->at += (size_t)got;
	// Who closes first keeps TIME_WAIT: here it costs no client a port.
	return s->header.purpose == ONCE && s->at >= MESSAGE ? -1 : 0;
}

static int attend(struct stream *s)
{
	if (s->state == GREETING)
		return greet(s);
	if (s->header.purpose == SINK) {
		int done = take_blocks(s);
		if (done == 1 && send(s->fd, &s->total, 8, MSG_NOSIGNAL) != 8)
			return -1;
		return done;
	}
	if (s->header.purpose == SOURCE) {
		int done = give_blocks(s, s->since);
		if (done == 1)
			watch(s, EPOLL_CTL_MOD, EPOLLIN);
		return done;
	}
	return echo(s);
}

static void accept_one(int listener)
{
	struct stream *s = calloc(1, sizeof *s);
	if (s == NULL)
		die("calloc");
	s->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (s->fd < 0 || no_delay(s->fd) < 0) {
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return;
	}
	watch(s, EPOLL_CTL_ADD, EPOLLIN);
}

static void serve(uint16_t port)
{
	struct sockaddr_in any = {.sin_family = AF_INET,
				  .sin_port = htons(port)};
	struct stream listener = {
		.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
	int on = 1;
	setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener.fd, (struct sockaddr *)&any, sizeof any) < 0)
		die("bind");
	if (listen(listener.fd, 4096) < 0)
		die("listen");
	watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		struct epoll_event events[EVENTS];
		int count = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			struct stream *s = events[i].data.ptr;
			if (s == &listener) {
				accept_one(listener.fd);
			} else if (attend(s) < 0) {
				close(s->fd);
				free(s);
			}
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: serve PORT\n");
		return 2;
	}
	prepare();
	serve((uint16_t)atoi(argv[1]));
}
