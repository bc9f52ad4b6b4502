/* guard.h - memory between two pages that nobody may touch.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_TEST_GUARD_H
#define FN_TEST_GUARD_H

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"

/* What is looked at on the open side of an array. */
enum { MARGIN = 512 };

/* What to say if a page is touched: keep it up to date. */
static char running_now[300];

static inline void on_fault(int signal_number) {
  (void)signal_number;
  static const char text[] = "FAIL a guard page was touched: ";
  if (write(1, text, sizeof text - 1) < 0 ||
      write(1, running_now, strlen(running_now)) < 0 ||
      write(1, "\n0 passed, 1 failed\n", 20) < 0) {
    _exit(2);
  }
  _exit(1);
}

/* `size` bytes, whole pages. */
static inline unsigned char *new_room(size_t size) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  unsigned char *p =
      mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED || mprotect(p + page, size, PROT_READ | PROT_WRITE) != 0) {
    perror("mmap");
    exit(3);
  }
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  return p + page;
}

#endif /* FN_TEST_GUARD_H */
