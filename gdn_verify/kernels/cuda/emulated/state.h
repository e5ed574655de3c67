// What the engine keeps: a launch, the blocks of the cluster that runs, their threads, and what those wait for.

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <vector>

namespace {

constexpr int WARP = 32;
constexpr int MOST_SHARED = 227 * 1024;  // bytes of a block, on sm_90
constexpr uint64_t UNTOUCHED = 0x5afe57ac;

constexpr int NAMED = 16;  // barriers of a block

enum State { READY, EXCHANGES, AT_BARRIER, AT_NAMED, AT_CLUSTER, AT_MAILBOX, DONE };
const char *const WORDS[] = {"ready", "at an exchange among lanes", "at the block's barrier", "at a numbered barrier",
                             "at the cluster's barrier", "at a mailbox", "at its end"};

struct Copy {
  int offset, bytes, group;
  const void *from;
};

struct Thread {
  Context context;
  State state;
  float value;    // given to an exchange, and taken from it
  int bits;       // of an exchange
  void *mine;     // of what lanes do together, and what that is; null at an exchange of floats
  void (*all)(void *const *);
  int barrier;    // that the thread waits at
  int arrivals, waits;  // at the cluster's barrier
  int committed;  // groups of copies
  std::vector<Copy> copies;
};

struct Letter {
  long offset;
  float value;
};

struct Block {
  int x, y, shared_bytes, threads_at_barrier, threads_done;
  int arrived[NAMED], expected[NAMED];  // at numbered barriers
  int letters_expected;  // none where the mailbox is closed
  std::vector<Letter> letters;
  std::vector<unsigned char> shared, ring;
};

struct Launch {
  void (*kernel)(const void *);
  const void *arguments;
  int threads, cluster, ring_bytes;
};

Machine machine;
Launch launch;
Context scheduler;
std::vector<Thread> threads;  // of a cluster, block after block
std::vector<Block> blocks;
int running;  // among `threads`
int arrived, phase;
char *stacks;
size_t stacks_made;
char message[512];
uint64_t random_state;

}  // namespace
