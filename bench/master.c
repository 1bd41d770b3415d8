/* The bare master: libmodbus, RTU, 20 registers of UNITS devices in turn, 3.5 characters of silence before each request.
 *
 *   master PATH BAUD UNITS PERIOD_US    PERIOD_US 0: as fast as the line allows; prints its sweeps per second on SIGTERM
 *
 * Stores nothing and publishes nothing: what is left of a line when the master costs nothing.
 * The few prototypes are written here because Debian's libmodbus5 comes without its header.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

typedef struct modbus modbus_t;
modbus_t *modbus_new_rtu(const char *device, int baud, char parity, int data_bit, int stop_bit);
int modbus_connect(modbus_t *ctx);
int modbus_flush(modbus_t *ctx);
int modbus_read_registers(modbus_t *ctx, int addr, int nb, uint16_t *dest);
int modbus_set_response_timeout(modbus_t *ctx, uint32_t to_sec, uint32_t to_usec);
int modbus_set_slave(modbus_t *ctx, int unit);

static volatile sig_atomic_t stopped;

static void stop(int number) { (void)number, stopped = 1; }

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(int64_t when) {
    struct timespec t = {when / 1000000000, when % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "master PATH BAUD UNITS PERIOD_US\n"); return 2; }
    int baud = atoi(argv[2]), units = atoi(argv[3]);
    int64_t silence = baud > 19200 ? 1750000 : 35000000000LL / baud, period = 1000LL * atoi(argv[4]), sweeps = 0;
    uint16_t registers[20];
    modbus_t *line = modbus_new_rtu(argv[1], baud, 'N', 8, 1);
    if (!line || modbus_connect(line)) { perror("master"); return 1; }
    modbus_set_response_timeout(line, 1, 0);
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGTERM, stop);
    int64_t began = now(), due = began, free_at = began + silence;
    while (!stopped) {
        for (int unit = 1; unit <= units && !stopped; unit++) {
            modbus_set_slave(line, unit);
            sleep_until(free_at);
            if (modbus_read_registers(line, 0, 20, registers) == 20) sweeps++;
            else modbus_flush(line);
            free_at = now() + silence;
        }
        due += period;
        if (period) sleep_until(due);
    }
    printf("%.2f sweeps per second\n", 1e9 * (double)sweeps / (double)(now() - began));
}
