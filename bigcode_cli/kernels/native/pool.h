// Threads that stay: they look for work for a moment, then sleep.
//
// A job is so many pieces. Whoever is awake takes the next one, so a thread that the system has put
// aside holds nobody up but with the piece it is at: threads more than cores cost little.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace bigcode {

class Pool {
 public:
  // Of `threads` threads, the caller's counted in; at least 1.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls `work(piece, thread)` for each piece of 0 … pieces - 1, and returns when all are done.
  // `thread` is below threads(), and of no two calls at a time the same.
  template <typename Work>
  void run(int pieces, const Work &work) {
    run_job(pieces, [](const void *job, int piece, int thread) {
      (*static_cast<const Work *>(job))(piece, thread);
    }, &work);
  }

 private:
  using Call = void (*)(const void *job, int piece, int thread);

  void end();
  void run_job(int pieces, Call call, const void *job);
  void serve(int thread);
  void take_pieces(int thread);

  std::vector<std::thread> workers_;
  Call call_ = nullptr;
  const void *job_ = nullptr;
  // How many pieces there are in the upper half, the next one in the lower: a thread that comes
  // late takes a piece of the job that there is, or none.
  std::atomic<uint64_t> next_{0};
  std::atomic<int> done_{0};
  std::atomic<uint32_t> turn_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> ends_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace bigcode
