// What both ends of the load agree on: how a connection begins, and bulk.
//
// It begins with 8 bytes: what it is for, three of padding, milliseconds. Bulk
// travels in blocks whose first byte tells whether it is the last, so both ends
// agree on the count without a half-close, which not every relay passes on.

#ifndef BENCH_BULK_H
#define BENCH_BULK_H

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 100, BLOCK = 256 * 1024, EVENTS = 256 };
// In one turn, so that one stream leaves time to the others.
enum { SENDS = 16 };
enum { MORE = 0, LAST = 1 };
enum purpose { ECHO = 'E', ONCE = 'O', SINK = 'S', SOURCE = 'G' };

struct header {
	uint8_t purpose;
	uint8_t padding[3];
	uint32_t milliseconds; // SOURCE: how long to send
};

struct stream {
	int fd;
	enum { GREETING, CONNECTING, RUNNING, ANSWERED, FINISHED } state;
	struct header header;
	size_t at;	// bytes into the header, message or block
	uint8_t kind;	// of the block that is under way
	uint64_t total; // bulk bytes
	uint64_t since; // the request's begin, or the time at which SOURCE ends
};

static int epoll;
static char block[2][BLOCK]; // by kind: MORE, LAST
static char scratch[BLOCK];

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void watch(struct stream *s, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = s};
	if (epoll_ctl(epoll, operation, s->fd, &event) < 0)
		die("epoll_ctl");
}

static int no_delay(int fd)
{
	int on = 1;
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// Take what is there of a sequence of blocks; true when the last one is complete.
// Returns -1 when the peer has closed before that.
static int take_blocks(struct stream *s)
{
	ssize_t got = recv(s->fd, scratch, BLOCK - s->at, 0);
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got <= 0)
		return -1;
	if (s->at == 0)
		s->kind = (uint8_t)scratch[0];
	s->total += (uint64_t)got;
	s->at = (s->at + (size_t)got) % BLOCK;
	return s->at == 0 && s->kind == LAST;
}

// Give blocks until the socket is full; true when the last one, begun at `end`, is out.
static int give_blocks(struct stream *s, uint64_t end)
{
	for (int i = 0; i < SENDS; i++) {
		if (s->at == 0)
			s->kind = now() >= end ? LAST : MORE;
		ssize_t gave = send(s->fd, block[s->kind] + s->at,
				    BLOCK - s->at, MSG_NOSIGNAL);
		if (gave < 0 && errno == EAGAIN)
			return 0;
		if (gave <= 0)
			return -1;
		s->total += (uint64_t)gave;
		s->at = (s->at + (size_t)gave) % BLOCK;
		if (s->at == 0 && s->kind == LAST)
			return 1;
	}
	return 0;
}

static void prepare(void)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	block[LAST][0] = LAST;
	if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
		die("epoll");
}

#endif
