// thread_pool.cc - a C++ host whose own thread pool does the library's work.
// SPDX-License-Identifier: MIT
//
//     c++ -std=c++17 thread_pool.cc $(pkg-config --cflags --libs fastnorm) -pthread
//
// A host that has a pool wants no second one beside it. So each call names the host's
// parallel_for; the library starts no thread of its own, and the bits are the same.
#include <fastnorm.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace {

class Pool {
public:
  explicit Pool(unsigned count) {
    for (unsigned i = 0; i < count; i++)
      threads_.emplace_back([this] { work(); });
  }

  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (std::thread &thread : threads_)
      thread.join();
  }

  void post(std::function<void()> job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push(std::move(job));
    }
    wake_.notify_one();
  }

  std::size_t size() const { return threads_.size(); }

private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
      if (jobs_.empty())
        return;
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop();
      lock.unlock();
      job();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::queue<std::function<void()>> jobs_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

std::atomic<std::size_t> pieces{0};

// What fastnorm calls: task(task_context, i) for every i < count, and return when all
// have finished. The caller takes part, so a busy pool delays nothing.
void parallel_for(void *context, std::size_t count, fastnorm_task task,
                  void *task_context) {
  Pool &pool = *static_cast<Pool *>(context);
  struct Shared {
    std::atomic<std::size_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  // Helpers that come late find nothing to do, but still have to look.
  auto shared = std::make_shared<Shared>();
  auto help = [shared, count, task, task_context] {
    std::size_t i;
    while ((i = shared->next++) < count) {
      task(task_context, i);
      pieces++;
      if (++shared->done == count) {
        std::lock_guard lock(shared->mutex);
        shared->finished.notify_all();
      }
    }
  };
  for (std::size_t i = 0; i < pool.size() && i + 1 < count; i++)
    pool.post(help);
  help();
  std::unique_lock lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done == count; });
}

} // namespace

int main() {
  constexpr std::size_t rows = 2048, cols = 1024;
  std::vector<float> x(rows * cols), y(x.size()), alone(x.size());
  for (std::size_t i = 0; i < x.size(); i++)
    x[i] = static_cast<float>(i * 2654435761u % 1000003) * 1e-3f;

  Pool pool(2);
  fastnorm_rms_norm_args args{};
  args.size = sizeof args;
  args.x = x.data();
  args.y = y.data();
  args.rows = rows;
  args.cols = cols;
  args.exec.parallel_for = parallel_for;
  args.exec.context = &pool;
  fastnorm_status status = fastnorm_rms_norm(&args);

  if (status == FASTNORM_OK) {
    args.y = alone.data();
    args.exec = {};
    args.exec.num_threads = 1;
    status = fastnorm_rms_norm(&args);
  }
  if (status != FASTNORM_OK) {
    std::fprintf(stderr, "rms_norm: %s\n", fastnorm_strerror(status));
    return 1;
  }
  const bool same = std::memcmp(y.data(), alone.data(), y.size() * sizeof y[0]) == 0;
  std::printf("%zu pieces on the host's pool: %s\n", pieces.load(),
              same ? "the bits of one thread" : "other bits than those of one thread");
  return same && pieces > 1 ? 0 : 1;
}
