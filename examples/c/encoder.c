/* encoder.c - the layer norms of a transformer's encoder block, in one C file.
 * SPDX-License-Identifier: MIT
 *
 *     cc encoder.c $(pkg-config --cflags --libs fastnorm) -lm -o encoder
 *
 * A pre-norm block normalises twice, and both times what comes next needs the norm as
 * well as the sum that it was taken of:
 *
 *     a = layer_norm(x)                 then attention(a)
 *     x = x + attention(a)              the residual sum,
 *     b = layer_norm(x)                 and its norm: one call, one pass over memory
 *
 * Attention itself is stood in for by a mean over the tokens. The program checks itself
 * against loops in double and prints the largest difference. */
#include <fastnorm.h>
#include <math.h>
#include <stdio.h>

enum { TOKENS = 128, WIDTH = 768 };

/* Static: a server would have such buffers once per request thread. */
static float x[TOKENS][WIDTH], a[TOKENS][WIDTH], attended[TOKENS][WIDTH];
static float sum[TOKENS][WIDTH], b[TOKENS][WIDTH];
static float weight[WIDTH], bias[WIDTH];

static void fill(void) {
  unsigned state = 1;
  for (int t = 0; t < TOKENS; t++)
    for (int i = 0; i < WIDTH; i++) {
      state = state * 1664525u + 1013904223u;
      x[t][i] = 3.0f + (float)(state >> 8) / (1 << 24);
    }
  for (int i = 0; i < WIDTH; i++) {
    weight[i] = 1.0f + 0.001f * (float)i;
    bias[i] = 0.01f * (float)(i % 7);
  }
}

static void attend(void) {
  for (int i = 0; i < WIDTH; i++) {
    float mean = 0;
    for (int t = 0; t < TOKENS; t++)
      mean += a[t][i] / TOKENS;
    for (int t = 0; t < TOKENS; t++)
      attended[t][i] = 0.5f * (a[t][i] - mean);
  }
}

/* The largest difference of `y` from the norm of `rows`, computed in double. */
static double difference(const float (*rows)[WIDTH], const float (*added)[WIDTH],
                         const float (*y)[WIDTH]) {
  double most = 0;
  for (int t = 0; t < TOKENS; t++) {
    double mean = 0, var = 0;
    for (int i = 0; i < WIDTH; i++)
      mean += ((double)rows[t][i] + (added ? added[t][i] : 0.0f)) / WIDTH;
    for (int i = 0; i < WIDTH; i++) {
      const double d = rows[t][i] + (added ? (double)added[t][i] : 0.0) - mean;
      var += d * d / WIDTH;
    }
    for (int i = 0; i < WIDTH; i++) {
      const double v = rows[t][i] + (added ? (double)added[t][i] : 0.0);
      const double right = (v - mean) / sqrt(var + 1e-5) * weight[i] + bias[i];
      const double off = fabs(y[t][i] - right);
      most = off > most ? off : most;
    }
  }
  return most;
}

static int failed(const char *what, fastnorm_status status) {
  if (status != FASTNORM_OK)
    fprintf(stderr, "%s: %s\n", what, fastnorm_strerror(status));
  return status != FASTNORM_OK;
}

int main(void) {
  fill();
  /* What is not named is zero, and zero means the default: eps 1e-5, rows adjacent. */
  fastnorm_layer_norm_args first = {
      .size = sizeof first,
      .x = x,
      .y = a,
      .weight = weight,
      .bias = bias,
      .rows = TOKENS,
      .cols = WIDTH,
  };
  if (failed("first norm", fastnorm_layer_norm(&first)))
    return 1;
  attend();

  fastnorm_layer_norm_args second = first;
  second.x = attended;
  second.residual = x;
  second.residual_out = sum;
  second.y = b;
  if (failed("second norm", fastnorm_layer_norm(&second)))
    return 1;

  const double one = difference(x, NULL, a), two = difference(x, attended, b);
  printf("fastnorm %s on %s: differs by at most %.1e and %.1e\n", fastnorm_version(),
         fastnorm_isa(), one, two);
  return one < 1e-5 && two < 1e-5 ? 0 : 1;
}
