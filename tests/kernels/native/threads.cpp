// Laws of the pool: every piece once, a thread's number at one place at a time, no call returns
// before its pieces are done. Many pools at once, threads above the cores, destroyed awake and
// asleep.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "pool.h"

using bigcode::Pool;

namespace {

std::atomic<int> failures{0};

void expect(bool law, const char *name) {
  if (!law && failures.fetch_add(1) < 20) std::printf("%s\n", name);
}

// Plain numbers, so that a piece done twice at once, or late, is a data race as well.
struct Job {
  std::vector<int> done;
  std::vector<int> busy;
};

void run(Pool &pool, int pieces, Job &job) {
  job.done.assign(pieces > 0 ? pieces : 0, 0);
  pool.run(pieces, [&](int piece, int thread) {
    expect(thread >= 0 && thread < pool.threads(), "a thread's number is below threads()");
    expect(piece >= 0 && piece < pieces, "a piece is one of the job's");
    expect(++job.busy[thread] == 1, "a thread's number is at one place at a time");
    ++job.done[piece];
    --job.busy[thread];
  });
  for (int count : job.done) expect(count == 1, "each piece is done once");
}

void work(int threads, int jobs, int seed) {
  Pool pool(threads);
  expect(pool.threads() == (threads < 1 ? 1 : threads), "as many threads as were asked for");
  Job job;
  job.busy.assign(pool.threads(), 0);
  uint32_t drawn = seed;
  for (int i = 0; i < jobs; ++i) {
    drawn = drawn * 1664525u + 1013904223u;
    run(pool, static_cast<int>(drawn >> 24) % 40, job);
  }
}

}  // namespace

int main(int count, char **) {
  const int jobs = count > 1 ? 150 : 3000;
  {
    std::vector<std::thread> users;
    for (int user = 0; user < 4; ++user) {
      users.emplace_back([=] { work(user * 2 + 1, jobs, user); });
    }
    for (auto &user : users) user.join();
  }
  work(0, 5, 1);
  // Destroyed before they have looked for work, while they look, and asleep.
  for (int wait : {0, 0, 0, 50, 300, 2000, 5000}) {
    Pool pool(5);
    Job job;
    job.busy.assign(5, 0);
    if (wait % 100 == 0) run(pool, 9, job);
    std::this_thread::sleep_for(std::chrono::microseconds(wait));
  }
  // Woken again and again.
  {
    Pool pool(3);
    Job job;
    job.busy.assign(3, 0);
    for (int i = 0; i < 30; ++i) {
      run(pool, 6, job);
      std::this_thread::sleep_for(std::chrono::microseconds(i % 3 * 500));
    }
  }
  std::printf("%d broken\n", failures.load());
  return failures.load() > 0;
}
