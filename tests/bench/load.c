// The clients of the benchmark, which measure what they see.
//
//   load trips ADDRESS PORT CONNECTIONS SECONDS WARMUP  round trips of 100 bytes
//   load bulk  ADDRESS PORT STREAMS SECONDS up|down     as fast as it goes
//   load opens ADDRESS PORT IN_FLIGHT SECONDS WARMUP    connect, one round trip
//   load idle  ADDRESS PORT CONNECTIONS                 open, one round trip, hold
//
// One thread, one epoll loop. Each prints one JSON object; times are nanoseconds.
// `idle` prints when all are open and then waits to be killed.

#include "bulk.h"
#include <arpa/inet.h>

enum { SAMPLES = 1 << 23 };

static uint32_t *samples;
static size_t sampled;
static size_t exchanges; // all of them, with those of the warm-up

static struct sockaddr_in server;

static void dial(struct stream *s, enum purpose purpose, uint32_t milliseconds)
{
	*s = (struct stream){.state = CONNECTING, .since = now()};
	s->header = (struct header){.purpose = purpose,
				    .milliseconds = milliseconds};
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || no_delay(s->fd) < 0)
		die("socket");
	if (connect(s->fd, (struct sockaddr *)&server, sizeof server) < 0 &&
	    errno != EINPROGRESS)
		die("connect");
	watch(s, EPOLL_CTL_ADD, EPOLLOUT);
}

// The header, and the first message with it where there is one.
static void introduce(struct stream *s)
{
	char first[sizeof s->header + MESSAGE] = {0};
	int small = s->header.purpose == ECHO || s->header.purpose == ONCE;
	size_t size = small ? sizeof first : sizeof s->header;
	memcpy(first, &s->header, sizeof s->header);
	if (send(s->fd, first, size, MSG_NOSIGNAL) != (ssize_t)size)
		die("the connection could not be opened");
	s->state = RUNNING;
	watch(s, EPOLL_CTL_MOD, EPOLLIN);
}

static void ask(struct stream *s)
{
	s->at = 0;
	s->since = now();
	if (send(s->fd, scratch, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
		die("send");
}

// Read on; true when a whole answer of `size` bytes is here.
static int answered(struct stream *s, void *answer, size_t size)
{
	ssize_t got = recv(s->fd, (char *)answer + s->at, size - s->at, 0);
	if (got < 0 && errno == EAGAIN)
		return 0;
	if (got == 0)
		errno = ECONNRESET;
	if (got <= 0)
		die("receive");
	s->at += (size_t)got;
	return s->at == size;
}

static void sample(uint64_t nanoseconds)
{
	exchanges++;
	if (sampled < SAMPLES)
		samples[sampled++] = nanoseconds > UINT32_MAX
					     ? UINT32_MAX
					     : (uint32_t)nanoseconds;
}

static int ascending(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return (a > b) - (a < b);
}

static uint32_t quantile(double q)
{
	size_t index = (size_t)(q * (double)sampled);
	return sampled ? samples[index < sampled ? index : sampled - 1] : 0;
}

static void print_samples(uint64_t nanoseconds)
{
	qsort(samples, sampled, sizeof *samples, ascending);
	printf("{\"count\": %zu, \"all\": %zu, \"nanoseconds\": %lu, ", sampled,
	       exchanges, nanoseconds);
	printf("\"p50\": %u, \"p99\": %u, \"max\": %u}\n", quantile(0.5),
	       quantile(0.99), quantile(1.0));
}

// One epoll round: each ready stream goes to `step`.
static void turn(void (*step)(struct stream *))
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(epoll, events, EVENTS, 5000);
	if (count == 0) {
		errno = ETIMEDOUT;
		die("nothing for five seconds");
	}
	for (int i = 0; i < count; i++) {
		struct stream *s = events[i].data.ptr;
		if (s->state == CONNECTING)
			introduce(s);
		else
			step(s);
	}
}

static int
	silent; // answers are not followed by a request: connections stay idle
static size_t open_streams;

static void trip(struct stream *s)
{
	if (!answered(s, scratch, MESSAGE))
		return;
	if (s->state == RUNNING) {
		s->state =
			ANSWERED; // the first answer: the connection is through
		open_streams++;
	} else {
		sample(now() - s->since);
	}
	s->at = 0;
	if (!silent)
		ask(s);
}

static void once(struct stream *s)
{
	if (s->state == RUNNING) {
		if (answered(s, scratch, MESSAGE)) {
			sample(now() - s->since);
			s->state = ANSWERED;
		}
		return;
	}
	close(s->fd); // the server's end: no more to come
	dial(s, ONCE, 0);
}

static void timed(void (*step)(struct stream *), double seconds, double warm_up)
{
	uint64_t until = now() + (uint64_t)(warm_up * 1e9);
	while (now() < until)
		turn(step);
	sampled = 0;
	uint64_t began = now();
	until = began + (uint64_t)(seconds * 1e9);
	while (now() < until)
		turn(step);
	print_samples(now() - began);
}

// Open connections a few at a time, as a listen queue can take them.
static void open_all(struct stream *streams, size_t count)
{
	for (size_t dialled = 0; open_streams < count;) {
		for (; dialled < count && dialled < open_streams + 64;
		     dialled++)
			dial(&streams[dialled], ECHO, 0);
		turn(trip);
	}
}

static size_t unfinished, ready;
static uint64_t began;

static void bulk_up(struct stream *s)
{
	uint64_t counted;
	int done;
	if (s->state == RUNNING && (done = give_blocks(s, s->since)) != 0) {
		if (done < 0)
			die("send");
		s->state = ANSWERED;
		watch(s, EPOLL_CTL_MOD, EPOLLIN);
	} else if (s->state == ANSWERED &&
		   answered(s, &counted, sizeof counted)) {
		if (counted != s->total)
			die("bytes were lost");
		s->state = FINISHED;
		unfinished--;
	}
}

static void bulk_down(struct stream *s)
{
	int done = take_blocks(s);
	if (done < 0)
		die("receive");
	if (done == 1) {
		s->state = FINISHED;
		unfinished--;
	}
}

static void begin(struct stream *s)
{
	char ready_mark;
	if (!answered(s, &ready_mark, 1))
		return;
	s->at = 0;
	if (ready++ == 0)
		began = now();
	if (s->header.purpose == SINK) // not before all are open
		watch(s, EPOLL_CTL_MOD, 0);
	else
		s->state = ANSWERED;
}

static void begin_or_take(struct stream *s)
{
	s->state == RUNNING ? begin(s) : bulk_down(s);
}

static void bulk(struct stream *streams, size_t count, double seconds, int up)
{
	uint32_t milliseconds = (uint32_t)(seconds * 1e3);
	uint64_t total = 0, least = UINT64_MAX;
	unfinished = count;
	for (size_t i = 0; i < count; i++)
		dial(&streams[i], up ? SINK : SOURCE, milliseconds);
	while (up && ready < count)
		turn(begin);
	if (up)
		began = now();
	for (size_t i = 0; up && i < count; i++) {
		streams[i].since = began + milliseconds * 1000000ull;
		watch(&streams[i], EPOLL_CTL_MOD, EPOLLOUT);
	}
	while (unfinished)
		turn(up ? bulk_up : begin_or_take);
	uint64_t took = now() - began;
	for (size_t i = 0; i < count; i++) {
		total += streams[i].total;
		least = streams[i].total < least ? streams[i].total : least;
	}
	printf("{\"bytes\": %lu, \"least\": %lu, \"nanoseconds\": %lu}\n",
	       total, least, took);
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "load: see the head of load.c\n");
		return 2;
	}
	prepare();
	size_t count = (size_t)atol(argv[4]);
	double seconds = argc > 5 ? atof(argv[5]) : 0;
	struct stream *streams = calloc(count, sizeof *streams);
	samples = malloc(SAMPLES * sizeof *samples);
	if (streams == NULL || samples == NULL)
		die("memory");
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)atoi(argv[3]));
	if (inet_pton(AF_INET, argv[2], &server.sin_addr) != 1)
		die(argv[2]);

	if (strcmp(argv[1], "trips") == 0 && argc == 7) {
		open_all(streams, count);
		timed(trip, seconds, atof(argv[6]));
	} else if (strcmp(argv[1], "opens") == 0 && argc == 7) {
		for (size_t i = 0; i < count; i++)
			dial(&streams[i], ONCE, 0);
		timed(once, seconds, atof(argv[6]));
	} else if (strcmp(argv[1], "bulk") == 0 && argc == 7) {
		bulk(streams, count, seconds, strcmp(argv[6], "up") == 0);
	} else if (strcmp(argv[1], "idle") == 0) {
		silent = 1;
		open_all(streams, count);
		printf("{\"open\": %zu}\n", open_streams);
		fflush(stdout);
		pause();
	}
	return 0;
}
