/* threads.h - runs the pieces of one call on the caller, idle workers or a host's pool.
 * SPDX-License-Identifier: MIT
 */
#ifndef FN_THREADS_H
#define FN_THREADS_H

#include <stddef.h>

#include "fastnorm.h"

/* Runs task(context, i) once for every i < count; all have finished when it returns,
 * and what they wrote is visible to the caller.
 *
 * `bytes` is what the whole call reads and writes. It decides how many threads are
 * worth waking, and keeps small work on the caller. `exec` is never NULL, and its
 * num_threads is not negative: the operation has checked it.
 *
 * Which thread runs which piece is not defined; so pieces must be cut by shape alone
 * and write disjoint memory. A task may not block. If it calls back into this function,
 * that call runs on its own thread alone. */
void fn_parallel_for(const fastnorm_exec *exec, size_t count, size_t bytes,
                     fastnorm_task task, void *context);

#endif /* FN_THREADS_H */
