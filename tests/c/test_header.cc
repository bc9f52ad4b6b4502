// test_header.cc - fastnorm.h is C++ clean, and its functions link and run from C++.
// SPDX-License-Identifier: MIT
#include "fastnorm.h"

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  const std::vector<float> x{1.0F, 2.0F, 3.0F, 4.0F};
  std::vector<float> y(4);
  fastnorm_layer_norm_args args{};
  args.size = sizeof args;
  args.x = x.data();
  args.y = y.data();
  args.rows = 1;
  args.cols = 4;
  args.eps = FASTNORM_EPS_ZERO;
  const bool good = fastnorm_layer_norm(&args) == FASTNORM_OK &&
                    std::fabs(y[3] - 1.3416407865F) < 1e-6F &&
                    fastnorm_version() != nullptr && fastnorm_isa() != nullptr;
  std::printf(good ? "1 passed, 0 failed\n" : "0 passed, 1 failed\n");
  return good ? 0 : 1;
}
