/* masked.c - masks and lengths: the arguments, and how much takes part.
 * SPDX-License-Identifier: MIT */
#include "masked.h"

#include <string.h>

bool fn_mask_is_given(const fastnorm_mask *args) {
  return args->mask || args->lengths || args->stride || args->channel_stride ||
         args->spatial_stride || args->positions || args->masked;
}

static fastnorm_status read_bytes(const fastnorm_mask *args, size_t batch,
                                  size_t channels, size_t spatial, fn_mask *m,
                                  fn_array *array) {
  if (args->lengths || args->positions)
    return FASTNORM_ERROR_MASK;
  const ptrdiff_t position = spatial == 1 ? args->stride : args->spatial_stride;
  m->bytes = args->mask;
  m->stride = args->stride;
  m->channel_stride = args->channel_stride;
  m->position_stride = position;
  m->samples = spatial == 1 ? 1 : batch;
  m->positions = spatial == 1 ? batch : spatial;
  *array = (fn_array){args->mask,
                      {batch, channels, spatial},
                      {args->stride, args->channel_stride, args->spatial_stride},
                      1,
                      FN_INPUT,
                      false};
  return FASTNORM_OK;
}

static fastnorm_status read_lengths(const fastnorm_mask *args, size_t batch,
                                    size_t spatial, fn_mask *m, fn_array *array) {
  const size_t positions = args->positions ? args->positions : spatial;
  if (!args->lengths || args->stride || args->channel_stride || args->spatial_stride)
    return FASTNORM_ERROR_MASK;
  if (spatial == 1 ? batch % positions != 0 : positions != spatial)
    return FASTNORM_ERROR_MASK;
  m->lengths = args->lengths;
  m->samples = spatial == 1 ? batch / positions : batch;
  m->positions = positions;
  *array = (fn_array){args->lengths,  {1, 1, m->samples}, {0, 0, 1},
                      sizeof(size_t), FN_INPUT,           false};
  return FASTNORM_OK;
}

fastnorm_status fn_mask_read(const fastnorm_mask *args, size_t batch, size_t channels,
                             size_t spatial, fn_mask *m, fn_array *array) {
  *m = (fn_mask){.keep = args->masked == FASTNORM_MASKED_KEEP, .channels = channels};
  if (args->masked != FASTNORM_MASKED_ZERO && args->masked != FASTNORM_MASKED_KEEP)
    return FASTNORM_ERROR_MASK;
  return args->mask ? read_bytes(args, batch, channels, spatial, m, array)
                    : read_lengths(args, batch, spatial, m, array);
}

/* Of at most 255 bytes: that many fit the sums of a vector of bytes. */
static size_t count_some(const unsigned char *bytes, ptrdiff_t step, size_t n) {
  unsigned char count = 0;
  if (step == 1)
    for (size_t i = 0; i < n; i++)
      count = (unsigned char)(count + (bytes[i] != 0));
  else
    for (size_t i = 0; i < n; i++)
      count = (unsigned char)(count + (bytes[(ptrdiff_t)i * step] != 0));
  return count;
}

size_t fn_mask_count_bytes(const unsigned char *bytes, ptrdiff_t step, size_t n) {
  size_t count = 0;
  if (step == 0)
    return bytes[0] != 0 ? n : 0;
  for (size_t i = 0; i < n; i += 240)
    count += count_some(bytes + (ptrdiff_t)i * step, step, n - i < 240 ? n - i : 240);
  return count;
}

size_t fn_mask_find(const unsigned char *bytes, ptrdiff_t step, size_t i, size_t n,
                    bool zero) {
  const uint64_t other = zero ? UINT64_C(0x0101010101010101) : 0;
  uint64_t eight;
  for (; step == 1 && i + 8 <= n; i += 8) { /* of a bool each, as most masks are */
    memcpy(&eight, bytes + i, 8);
    if (eight != other)
      break;
  }
  while (i < n && (bytes[(ptrdiff_t)i * step] == 0) != zero)
    i++;
  return i;
}

static const unsigned char *bytes_of(const fn_mask *m, size_t sample, size_t channel) {
  return m->bytes + (ptrdiff_t)sample * m->stride +
         (ptrdiff_t)channel * m->channel_stride;
}

bool fn_mask_is_stretch(const fn_mask *m, size_t sample, size_t channel, size_t *first,
                        size_t *count) {
  *first = 0;
  *count = m->bytes ? 0 : m->lengths[sample];
  if (!m->bytes)
    return true;
  const unsigned char *bytes = bytes_of(m, sample, channel);
  const ptrdiff_t step = m->position_stride;
  *first = fn_mask_find(bytes, step, 0, m->positions, false);
  const size_t end = fn_mask_find(bytes, step, *first, m->positions, true);
  *count = end - *first;
  return fn_mask_find(bytes, step, end, m->positions, false) == m->positions;
}

size_t fn_mask_count(const fn_mask *m, size_t sample, size_t channel) {
  if (!m->bytes)
    return m->lengths[sample];
  return fn_mask_count_bytes(bytes_of(m, sample, channel), m->position_stride,
                             m->positions);
}

size_t fn_mask_count_all(const fn_mask *m, size_t channel) {
  size_t count = 0;
  for (size_t n = 0; n < m->samples; n++)
    count += fn_mask_count(m, n, channel);
  return count;
}

fastnorm_status fn_mask_look(const fn_mask *m, bool by_sample, fn_mask_survey *found) {
  const size_t channels = fn_mask_is_shared(m) ? 1 : m->channels;
  const size_t samples = by_sample ? m->samples : 1;
  const size_t full = by_sample ? m->positions : m->positions * m->samples;
  *found = (fn_mask_survey){.all = true};
  for (size_t n = 0; m->lengths && n < m->samples; n++)
    if (m->lengths[n] > m->positions)
      return FASTNORM_ERROR_MASK;
  for (size_t n = 0; n < samples; n++)
    for (size_t c = 0; c < channels; c++) {
      const size_t count = by_sample ? fn_mask_count(m, n, c) : fn_mask_count_all(m, c);
      found->all &= count == full;
      found->single |= count == 1;
      if (count > found->most)
        found->most = count;
    }
  return FASTNORM_OK;
}
