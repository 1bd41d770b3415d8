/* Field simulator for measuring: serial lines on pseudo-terminals, with Modbus RTU devices and the time of the wire.
 *
 *   line BAUD FIRST LAST JOURNAL PATH...    one line per PATH (a symbolic link to its pty), units FIRST..LAST on each;
 *                                           prints "ready", ends when stdin closes
 *
 * 8N1. A byte takes ten bits. A request occupies the wire from the moment it is written; it ends with 3.5 characters
 * of silence (1.75 ms above 19200 baud), as the specification wants, and then the device answers at once: that silence
 * is its turn-around. The reply arrives in pieces of eight bytes (a UART's FIFO), the last one when its wire time ends.
 * Holding registers (function 3): 0-19 as in registers.h, 20-199 their own address. All else is an exception.
 *
 * Commands on stdin:  silent LINE UNIT     from now on that unit says nothing (UNIT 0: none of the line)
 *                     gone LINE            the port is unplugged
 *                     crc PPM              so many of a million answers have one bit flipped
 *                     noise BYTES          so many bytes of noise before each answer
 *                     babble LINE MODE     bytes without end: 1 at the speed of the line, 2 as many as go; 0 ends it
 *
 * The JOURNAL gets a struct record per request when it is judged; bench/line.py reads it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "registers.h"

enum { ADU_MAX = 256, NOISE_MAX = 8, HOLDING = 200, LINES_MAX = 16, PIECE = 8, FLOOD = 4096, SPIN_NS = 60000 };
enum babble { QUIET, PACED, FLOODING };
enum outcome { ANSWERED, CORRUPTED, SILENT, GARBAGE, COLLIDED };
static const int64_t NEVER = INT64_MAX;

struct record {
    int64_t begin;  /* ns of CLOCK_MONOTONIC: the first byte was written */
    int64_t end;    /* its last byte has left the wire */
    int64_t gap;    /* silence before `begin`, since the last byte of anybody */
    uint16_t start, count;
    uint8_t line, unit, function, outcome;
};

struct line {
    const char *path;
    int fd, held; /* our end; theirs, held open so that the line stays up when a master closes it */
    int64_t begin, end, gap, quiet, from, due, next; /* next: when the next piece of babble is due */
    unsigned babble, in_len, out_pos, out_len;
    uint8_t in[ADU_MAX], out[NOISE_MAX + ADU_MAX], silent[256];
    uint32_t counts[256];
};

static struct line lines[LINES_MAX];
static int line_count, first_unit, last_unit, journal;
static int64_t character, silence;
static uint32_t corrupt_ppm, noise_bytes, draws;
static uint8_t nonsense[FLOOD];

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Of the first thousand draws of this seed 2.0 % are below 2 %. */
static uint32_t draw(void) { return noise(4, ++draws, 0); }

static uint16_t crc16(const uint8_t *p, unsigned size) {
    uint16_t crc = 0xFFFF;
    while (size--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0xA001 : crc >> 1);
    }
    return crc;
}

static void note(const struct line *l, const uint8_t *q, int64_t begin, int64_t end, int64_t gap, enum outcome outcome) {
    struct record r = {begin, end, gap, (uint16_t)(q[2] << 8 | q[3]), (uint16_t)(q[4] << 8 | q[5]),
                       (uint8_t)(l - lines), q[0], q[1], (uint8_t)outcome};
    if (write(journal, &r, sizeof r) != sizeof r) exit(1);
}

/* Bytes from the master. While a reply is on the wire nobody hears them. */
static void hear(struct line *l) {
    uint8_t rest[ADU_MAX] = {0};
    int64_t t = now();
    int idle = l->in_len < ADU_MAX && !l->out_len;
    ssize_t n = idle ? read(l->fd, l->in + l->in_len, ADU_MAX - l->in_len) : read(l->fd, rest, sizeof rest);
    if (n <= 0) return;
    if (l->out_len) {
        note(l, rest, t, t + n * character, t - l->from - l->out_len * character, COLLIDED);
        return;
    }
    if (!l->in_len) l->begin = l->end = t, l->gap = t - l->quiet;
    if (idle) l->in_len += (unsigned)n;
    l->quiet = l->end = (t > l->end ? t : l->end) + n * character;
    l->due = l->end + silence;
}

/* Writes the reply to the request in `in` behind the noise; returns its length. */
static unsigned reply(struct line *l, uint8_t *r) {
    uint8_t regs[2 * HOLDING], *q = l->in;
    uint32_t start = (uint32_t)(q[2] << 8 | q[3]), count = (uint32_t)(q[4] << 8 | q[5]);
    unsigned size = 3;
    r[0] = q[0], r[1] = q[1];
    if (q[1] != 3 || !count || count > 125 || start + count > HOLDING) {
        r[1] |= 0x80, r[2] = q[1] == 3 ? 2 : 1;
    } else {
        fill_registers(regs, q[0], &l->counts[q[0]], start, count);
        for (uint32_t at = REGISTERS; at < HOLDING; at++) put16(regs + 2 * at, at);
        r[2] = (uint8_t)(2 * count);
        memcpy(r + size, regs + 2 * start, 2 * count);
        size += 2 * count;
    }
    uint16_t crc = crc16(r, size);
    r[size] = (uint8_t)crc, r[size + 1] = (uint8_t)(crc >> 8);
    return size + 2;
}

/* A request has ended: what the devices make of it. */
static void judge(struct line *l) {
    uint8_t unit = l->in[0];
    enum outcome outcome = ANSWERED;
    if (l->in_len < 8 || crc16(l->in, l->in_len)) outcome = GARBAGE;
    else if (unit < first_unit || unit > last_unit || l->silent[unit]) outcome = SILENT;
    else {
        for (unsigned i = 0; i < noise_bytes; i++) l->out[i] = (uint8_t)draw();
        uint8_t *frame = l->out + noise_bytes;
        unsigned size = reply(l, frame);
        if (corrupt_ppm && draw() % 1000000 < corrupt_ppm) {
            uint32_t bit = draw() % (8 * size);
            frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
            outcome = CORRUPTED;
        }
        l->out_len = noise_bytes + size;
    }
    note(l, l->in, l->begin, l->end, l->gap, outcome);
    l->in_len = l->out_pos = 0;
    l->from = l->due;
    l->due = NEVER;
}

static unsigned piece(const struct line *l) { return (l->out_len - l->out_pos - 1) % PIECE + 1; }

/* What is due: the end of a request, or of a piece of the reply. */
static void step(struct line *l) {
    if (!l->out_len) {
        judge(l);
    } else {
        l->quiet = now();
        if (write(l->fd, l->out + l->out_pos, piece(l)) < 0) perror("line: lost bytes");
        l->out_pos += piece(l);
    }
    if (l->out_pos < l->out_len) {
        l->due = l->from + (l->out_pos + piece(l)) * character;
    } else if (l->out_len) {
        l->due = NEVER, l->out_len = 0;
    }
}

/* Bytes that nobody has asked for. What the port does not take is lost, as on a wire. */
static void babble(struct line *l, int64_t t, int room) {
    if (l->babble == FLOODING && room) {
        if (write(l->fd, nonsense, FLOOD) > 0) l->quiet = t;
    } else if (l->babble == PACED && l->next <= t) {
        if (write(l->fd, nonsense, PIECE) > 0) l->quiet = t;
        l->next = (l->next + PIECE * character > t ? l->next : t) + PIECE * character;
    }
}

/* When to look at this line again. Just before a reply ends and where the next request may come we do not sleep. */
static int64_t wake(const struct line *l, int64_t t) {
    if (l->babble == PACED) return l->due < l->next ? l->due : l->next;
    if (l->due != NEVER) return l->out_len && l->out_pos + PIECE >= l->out_len ? l->due - SPIN_NS : l->due;
    int64_t soonest = l->quiet + silence - SPIN_NS;
    return t < soonest + 4 * SPIN_NS ? soonest : NEVER;
}

static void obey(char *commands) {
    for (char *c = strtok(commands, "\n"); c; c = strtok(NULL, "\n")) {
        unsigned line, unit, mode;
        if (sscanf(c, "silent %u %u", &line, &unit) == 2) {
            if (unit) lines[line].silent[unit] = 1;
            else memset(lines[line].silent, 1, sizeof lines[line].silent);
        } else if (sscanf(c, "babble %u %u", &line, &mode) == 2) {
            lines[line].babble = mode, lines[line].next = now();
        } else if (sscanf(c, "gone %u", &line) == 1) {
            struct line *l = &lines[line];
            unlink(l->path), close(l->held), close(l->fd);
            l->fd = -1, l->due = NEVER, l->in_len = l->out_len = 0;
        } else if (sscanf(c, "crc %u", &corrupt_ppm) != 1 && sscanf(c, "noise %u", &noise_bytes) != 1) {
            fprintf(stderr, "line: unknown command: %s\n", c);
        }
    }
}

static int lay(struct line *l, const char *path) {
    struct termios raw;
    l->path = path, l->due = NEVER;
    l->fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (l->fd < 0 || grantpt(l->fd) || unlockpt(l->fd)) return -1;
    l->held = open(ptsname(l->fd), O_RDWR | O_NOCTTY);
    if (l->held < 0 || tcgetattr(l->held, &raw)) return -1;
    cfmakeraw(&raw);
    return tcsetattr(l->held, TCSANOW, &raw) || symlink(ptsname(l->fd), path) ? -1 : 0;
}

static void run(void) {
    struct pollfd watched[LINES_MAX + 1] = {{.fd = 0, .events = POLLIN}};
    for (;;) {
        int64_t t = now(), soonest = NEVER;
        for (int i = 0; i < line_count; i++) {
            int64_t at = wake(&lines[i], t);
            if (at < soonest) soonest = at;
            short events = lines[i].babble == FLOODING ? POLLIN | POLLOUT : POLLIN;
            watched[i + 1] = (struct pollfd){.fd = lines[i].fd, .events = events};
        }
        int64_t rest = soonest > t ? soonest - t : 0;
        struct timespec timeout = {rest / 1000000000, rest % 1000000000};
        ppoll(watched, (nfds_t)line_count + 1, soonest == NEVER ? NULL : &timeout, NULL);
        for (int i = 0; i < line_count; i++) {
            if (watched[i + 1].revents & POLLIN) hear(&lines[i]);
            if (lines[i].due <= now()) step(&lines[i]);
            babble(&lines[i], now(), watched[i + 1].revents & POLLOUT);
        }
        if (watched[0].revents) {
            char commands[4096];
            ssize_t n = read(0, commands, sizeof commands - 1);
            if (n <= 0) return;
            commands[n] = 0;
            obey(commands);
        }
    }
}

int main(int argc, char **argv) {
    int baud = argc > 5 ? atoi(argv[1]) : 0;
    if (baud <= 0 || argc - 5 > LINES_MAX) { fprintf(stderr, "line BAUD FIRST LAST JOURNAL PATH...\n"); return 2; }
    character = 10000000000LL / baud;
    silence = baud > 19200 ? 1750000 : 35 * character / 10;
    first_unit = atoi(argv[2]), last_unit = atoi(argv[3]);
    journal = open(argv[4], O_WRONLY | O_CREAT | O_APPEND, 0600);
    for (unsigned i = 0; i < FLOOD; i++) nonsense[i] = (uint8_t)draw();
    draws = 0;
    for (; line_count < argc - 5; line_count++) {
        if (lay(&lines[line_count], argv[line_count + 5])) { perror("line: pty"); return 1; }
    }
    prctl(PR_SET_TIMERSLACK, 1);
    puts("ready");
    fflush(stdout);
    run();
}
