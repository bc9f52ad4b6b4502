/* status.c - the version and the sentences for the status values.
 * SPDX-License-Identifier: MIT */
#include "fastnorm.h"

const char *fastnorm_version(void) {
  return FASTNORM_VERSION_STRING;
}

const char *fastnorm_strerror(fastnorm_status status) {
  switch (status) {
  case FASTNORM_OK:
    return "success";
  case FASTNORM_ERROR_ARGS:
    return "args is NULL, or its size is not one that this library knows";
  case FASTNORM_ERROR_DTYPE:
    return "dtype is not a fastnorm_dtype";
  case FASTNORM_ERROR_NULL:
    return "a required pointer is NULL";
  case FASTNORM_ERROR_SHAPE:
    return "the extents exceed the address space, differ between two states, or count "
           "more elements than fit";
  case FASTNORM_ERROR_STRIDE:
    return "elements of an output overlap, or the channels of a table are not adjacent";
  case FASTNORM_ERROR_ALIGNMENT:
    return "a pointer is not aligned to its element";
  case FASTNORM_ERROR_OVERLAP:
    return "an output overlaps an input or another output";
  case FASTNORM_ERROR_EPS:
    return "eps is neither a finite number >= 0 nor FASTNORM_EPS_ZERO";
  case FASTNORM_ERROR_MOMENTUM:
    return "momentum is neither in (0, 1] nor FASTNORM_MOMENTUM_CUMULATIVE";
  case FASTNORM_ERROR_RUNNING:
    return "running_mean and running_var must come together, and inference needs them";
  case FASTNORM_ERROR_COUNT:
    return "training needs more than one value per channel, or weights whose sum is "
           "above 1; or ddof is negative or not finite";
  case FASTNORM_ERROR_ISA:
    return "the instruction set is unknown or not supported by this CPU";
  case FASTNORM_ERROR_THREADS:
    return "the number of threads is negative";
  case FASTNORM_ERROR_QUANTIZATION:
    return "a quantization scale or zero point is out of range, or none is needed";
  case FASTNORM_ERROR_ACTIVATION:
    return "the activation is unknown, or its alpha or beta is NaN or out of order";
  case FASTNORM_ERROR_GROUPS:
    return "groups does not divide channels";
  case FASTNORM_ERROR_COMBINATION:
    return "fields that do not go together, or one of two that belong together";
  case FASTNORM_ERROR_IMAGE:
    return "an image of no or too many channels, or scale, mean or std out of range";
  case FASTNORM_ERROR_LIMITS:
    return "r_max is below 1, or d_max is negative and not FASTNORM_D_MAX_ZERO";
  case FASTNORM_ERROR_NAN:
    return "there is a NaN, which .nan makes an error, or .nan is no "
           "fastnorm_nan_policy";
  case FASTNORM_ERROR_WEIGHT:
    return "a weight is negative, infinite or NaN";
  case FASTNORM_ERROR_SCRATCH:
    return "the scratch memory is smaller than the call needs";
  case FASTNORM_ERROR_MASK:
    return "two of mask, weights and lengths, a length above the number of positions, "
           "positions that do not fit, or masked is no fastnorm_masked";
  }
  return "unknown status";
}
