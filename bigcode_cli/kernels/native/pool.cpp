#include "pool.h"

#include <chrono>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace bigcode {
namespace {

// A step has a hundred jobs, microseconds apart: a thread that slept between them would be late for
// each. Between two calls of a program that does nothing else pass some hundred microseconds.
constexpr auto kAwake = std::chrono::microseconds(500);
constexpr int kLooks = 64;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks again and again whether `is_there`, at most for kAwake; whether it was.
template <typename IsThere>
bool look_for(const IsThere &is_there) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int look = 0; look < kLooks; ++look) {
      if (is_there()) return true;
      relax();
    }
    // With more threads than cores, the one that is waited for may need this one's.
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() - start < kAwake);
  return is_there();
}

}  // namespace

Pool::Pool(int threads) {
  try {
    for (int thread = 1; thread < threads; ++thread) {
      workers_.emplace_back([this, thread] { serve(thread); });
    }
  } catch (...) {
    // The system gives no more: those that there are would be destroyed while they run.
    end();
    throw;
  }
}

Pool::~Pool() { end(); }

void Pool::end() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ends_.store(true);
  }
  wake_.notify_all();
  for (auto &worker : workers_) worker.join();
}

void Pool::run_job(int pieces, Call call, const void *job) {
  if (pieces <= 0) return;
  if (workers_.empty() || pieces == 1) {
    for (int piece = 0; piece < pieces; ++piece) call(job, piece, 0);
    return;
  }
  call_ = call;
  job_ = job;
  done_.store(0, std::memory_order_relaxed);
  next_.store(static_cast<uint64_t>(pieces) << 32);
  turn_.fetch_add(1);
  if (sleeping_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  take_pieces(0);
  while (!look_for([&] { return done_.load(std::memory_order_acquire) == pieces; })) {
  }
}

void Pool::take_pieces(int thread) {
  uint64_t next = next_.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t piece = static_cast<uint32_t>(next);
    if (piece >= static_cast<uint32_t>(next >> 32)) return;
    if (!next_.compare_exchange_weak(next, next + 1, std::memory_order_acq_rel)) continue;
    // With a piece in hand the job cannot end, so what it is stays where it is.
    call_(job_, static_cast<int>(piece), thread);
    done_.fetch_add(1, std::memory_order_acq_rel);
    next = next_.load(std::memory_order_acquire);
  }
}

void Pool::serve(int thread) {
  uint32_t seen = 0;
  for (;;) {
    const auto is_new = [&] { return ends_.load() || turn_.load() != seen; };
    if (!look_for(is_new)) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, is_new);
      sleeping_.fetch_sub(1);
    }
    if (ends_.load()) return;
    seen = turn_.load();
    take_pieces(thread);
  }
}

}  // namespace bigcode
