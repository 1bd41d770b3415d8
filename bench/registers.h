/* The registers of a simulated device, for field.c (TCP) and line.c (serial).
 *
 * Holding registers (function 3), big-endian, high word first (ABCD):
 *   0-1    ms   uint32   CLOCK_MONOTONIC in ms, modulo 2^32, at the moment of answering
 *   2-3    n    uint32   how many answers of this unit have held this register: +1 per answer, from 1
 *   4-11   f0-3 float32  230.0 +- 2.0 in steps of 0.1, noise
 *   12-19  s0-7 int16    100 * (j + 1) + a walk of small steps
 * f and s are pure functions of (unit, n), see noise() and walk(): bench/field.py computes the same, so a receiver
 * checks every value, sees torn sweeps, and finds lost and repeated readings by n alone.
 */
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { REGISTERS = 20 };

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint32_t noise(uint32_t unit, uint32_t n, uint32_t column) {
    uint32_t x = n * 0x9E3779B1u + unit * 0x85EBCA77u + column * 0xC2B2AE3Du;
    x ^= x >> 16, x *= 0x7FEB352Du, x ^= x >> 15, x *= 0x846CA68Bu, x ^= x >> 16;
    return x;
}

static int walk(uint32_t unit, uint32_t n, uint32_t j) {
    uint32_t phase = (n / 2 + noise(unit, 0, j)) % 200;
    int slow = phase < 100 ? (int)phase : 200 - (int)phase;
    return 100 * (int)(j + 1) + slow + (int)(noise(unit, n, 4 + j) % 3);
}

static void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16), put16(p + 2, v); }

/* The registers of a unit for one answer to (start, count); `n` counts this unit's answers. */
static void fill_registers(uint8_t *regs, uint32_t unit, uint32_t *n, uint32_t start, uint32_t count) {
    if (start <= 2 && start + count >= 4) ++*n;
    put32(regs, (uint32_t)now_ms());
    put32(regs + 4, *n);
    for (uint32_t k = 0; k < 4; k++) {
        float f = (float)((2280 + (int)(noise(unit, *n, k) % 41)) / 10.0);
        uint32_t bits;
        memcpy(&bits, &f, 4);
        put32(regs + 8 + 4 * k, bits);
    }
    for (uint32_t j = 0; j < 8; j++) put16(regs + 24 + 2 * j, (uint32_t)walk(unit, *n, j));
}
