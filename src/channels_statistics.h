/* channels_statistics.h - gradients of channels: mean and rstd, given or found.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CHANNELS_STATISTICS_H
#define FN_CHANNELS_STATISTICS_H

#include "channels_backward.h"

/* b->hi, b->is_slow and b->rstd (b->scale instead, where the caller gives it) of a
 * block of whole groups. With `shared`, by all threads where there is scratch. */
void fn_block_statistics(const fn_backward *w, const fn_view *v, bool shared,
                         fn_channel_block *b);

/* Element 0 of them, for a group of any number of channels; false if it is slow. */
bool fn_group_statistics(const fn_backward *w, const fn_view *v, fn_channel_block *b);

#endif
