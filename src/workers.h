/* workers.h - the shared workers, for threads.c.
 * SPDX-License-Identifier: MIT */
#ifndef FN_WORKERS_H
#define FN_WORKERS_H

#include <stddef.h>

#include "fastnorm.h"

#if defined(FASTNORM_NO_THREADS) || !(defined(__unix__) || defined(__APPLE__))
#define FN_HAVE_PTHREADS 0
#else
#define FN_HAVE_PTHREADS 1
#endif

static inline void fn_on_this_thread(size_t count, fastnorm_task task, void *context) {
  for (size_t i = 0; i < count; i++)
    task(context, i);
}

/* On this thread and up to `threads` - 1 workers, 2 or more; on this thread alone where
 * they are busy, or cost more than a call of so many bytes gains. */
void fn_run_shared(size_t threads, size_t count, size_t bytes, fastnorm_task task,
                   void *context);

#endif
