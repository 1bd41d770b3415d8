/* Field simulator for measuring: Modbus TCP devices that answer at once.
 *
 *   field ENDPOINTS      listens on ENDPOINTS free loopback ports and prints "ports P1 P2 ..." on one line
 *
 * Every endpoint answers for every unit 1..247; a unit's state is shared by all endpoints.
 *
 * Holding registers (function 3): registers.h.
 *
 * Input registers (function 4), for the bench, any unit:
 *   0-3    uint64   answers to function 3 so far, all units
 *   4-7    uint64   CLOCK_MONOTONIC in ms of the first of them, 0: none yet
 *
 * Other functions are answered with exception 1, other addresses with exception 2. Ends when stdin closes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "registers.h"

enum { IN_SIZE = 16384, OUT_SIZE = 131072, ADU_MAX = 260, HEAD = 9 };

struct conn {
    int fd, listener, blocked;
    unsigned in_len, out_pos, out_len;
    uint8_t in[IN_SIZE], out[OUT_SIZE];
};

static int poller;
static uint32_t counts[256];
static uint64_t answers, first_ms;

static void put64(uint8_t *p, uint64_t v) { put32(p, (uint32_t)(v >> 32)), put32(p + 4, (uint32_t)v); }

/* Writes the reply to one request ADU; returns its length. */
static unsigned answer(const uint8_t *q, uint8_t *r) {
    uint32_t unit = q[6], function = q[7], start = q[8] << 8 | q[9], count = q[10] << 8 | q[11], limit = 0;
    uint8_t regs[2 * REGISTERS];
    memcpy(r, q, 8);
    if (function == 3) limit = REGISTERS;
    if (function == 4) limit = 8;
    if (!limit || !count || start + count > limit) {
        put16(r + 4, 3);
        r[7] |= 0x80, r[8] = limit ? 2 : 1;
        return 9;
    }
    if (function == 3) {
        if (!answers++) first_ms = now_ms();
        fill_registers(regs, unit, &counts[unit], start, count);
    } else {
        put64(regs, answers), put64(regs + 8, first_ms);
    }
    put16(r + 4, 3 + 2 * count);
    r[8] = (uint8_t)(2 * count);
    memcpy(r + HEAD, regs + 2 * start, 2 * count);
    return HEAD + 2 * count;
}

static void end(struct conn *c) { close(c->fd), free(c); }

static void watch(struct conn *c, int op, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, op, c->fd, &e);
}

/* Answers every whole request in the buffer. Returns -1 on nonsense. */
static int serve(struct conn *c) {
    unsigned used = 0;
    while (c->in_len - used >= 12 && OUT_SIZE - c->out_len >= ADU_MAX) {
        const uint8_t *q = c->in + used;
        unsigned size = 6 + (unsigned)(q[4] << 8 | q[5]);
        if (q[2] || q[3] || size < 12 || size > ADU_MAX) return -1;
        if (c->in_len - used < size) break;
        c->out_len += answer(q, c->out + c->out_len);
        used += size;
    }
    memmove(c->in, c->in + used, c->in_len -= used);
    return 0;
}

static void ready(struct conn *c) {
    if (c->out_pos == c->out_len) {
        ssize_t n = recv(c->fd, c->in + c->in_len, IN_SIZE - c->in_len, 0);
        if (n < 0 && errno == EAGAIN) return;
        c->out_pos = c->out_len = 0;
        if (n <= 0) { end(c); return; }
        c->in_len += (unsigned)n;
        if (serve(c) < 0) { end(c); return; }
    }
    while (c->out_pos < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_pos, c->out_len - c->out_pos, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { watch(c, EPOLL_CTL_MOD, EPOLLOUT), c->blocked = 1; return; }
        if (n < 0) { end(c); return; }
        c->out_pos += (unsigned)n;
    }
    if (c->blocked) watch(c, EPOLL_CTL_MOD, EPOLLIN), c->blocked = 0;
}

static void welcome(struct conn *listener) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), on = 1;
    struct conn *c = fd < 0 ? NULL : calloc(1, sizeof *c);
    if (!c) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static int listen_on_free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    struct conn *c = calloc(1, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->listener = 1;
    if (bind(c->fd, (struct sockaddr *)&a, size) || listen(c->fd, 64)) return -1;
    getsockname(c->fd, (struct sockaddr *)&a, &size);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    return ntohs(a.sin_port);
}

int main(int argc, char **argv) {
    int endpoints = argc > 1 ? atoi(argv[1]) : 1;
    struct epoll_event events[64], lifeline = {.events = EPOLLIN, .data.ptr = NULL};
    poller = epoll_create1(0);
    printf("ports");
    for (int i = 0; i < endpoints; i++) {
        int port = listen_on_free_port();
        if (port < 0) { perror("field: listen"); return 1; }
        printf(" %d", port);
    }
    printf("\n");
    fflush(stdout);
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &lifeline);
    for (;;) {
        int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) return 0;
            if (c->listener) welcome(c);
            else ready(c);
        }
    }
}
