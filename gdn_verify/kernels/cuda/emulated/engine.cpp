// Blocks of threads on a plain processor: every thread a fiber, one of which runs at a time.
//
// A launch is run a cluster at a time (without clusters: a block), in an order that the seed shuffles. Of a cluster, any
// warp that can go on may be next, and its lanes go on one after the other until each waits for somebody: for the other
// lanes at an exchange, for the block at a barrier, for the cluster. There is no memory model here: a store is seen at
// once by all. What is shared begins as NaN, so a number that is read before it was written shows.
//
// A finding ends the launch: lanes of a warp that wait for different things, threads that wait for ones that never come,
// an index beyond an array in shared memory, an address that is no multiple of what is loaded, another block's memory
// touched before it is known to have begun, or after it has ended.

#include "engine.h"
#include "fiber.h"
#include "state.h"

namespace {

uint32_t random_below(uint32_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<uint32_t>(random_state >> 33) % n;
}

Block &block() { return blocks[running / launch.threads]; }

void go_back() { threads[running].context.go(scheduler); }

__attribute__((format(printf, 1, 2))) void find(const char *format, ...) {
  if (message[0]) return;
  va_list rest;
  va_start(rest, format);
  vsnprintf(message, sizeof message, format, rest);
  va_end(rest);
}

// In a thread: the launch is over.
void end_here() {
  const size_t used = strlen(message);
  snprintf(message + used, sizeof message - used, " (thread %d of block %d, %d)", machine.thread, machine.block_x,
           machine.block_y);
  go_back();
}

void *ring(int offset, int bytes) {
  if (offset < 0 || offset + bytes > launch.ring_bytes) {
    find("bytes %d to %d of a ring of %d", offset, offset + bytes, launch.ring_bytes);
    end_here();
  }
  return block().ring.data() + offset;
}

void block_barrier() {
  threads[running].state = AT_BARRIER;
  block().threads_at_barrier++;
  go_back();
}

float of_lane_xor(float value, int bits) {
  Thread &t = threads[running];
  t.state = EXCHANGES;
  t.value = value;
  t.bits = bits;
  t.all = nullptr;
  go_back();
  return t.value;
}

void together(void *mine, void (*all)(void *const *)) {
  Thread &t = threads[running];
  t.state = EXCHANGES;
  t.mine = mine;
  t.bits = 0;
  t.all = all;
  go_back();
}

void named_barrier(int barrier, int count, bool waits) {
  Block &b = block();
  if (barrier < 1 || barrier >= NAMED || count % WARP || count > launch.threads) {
    find("barrier %d of %d threads", barrier, count);
    end_here();
  }
  if (b.arrived[barrier] && b.expected[barrier] != count) {
    find("barrier %d is met for %d threads and for %d", barrier, b.expected[barrier], count);
    end_here();
  }
  Thread &t = threads[running];
  b.expected[barrier] = count;
  if (++b.arrived[barrier] < count) {
    if (!waits) return;
    t.barrier = barrier;
    t.state = AT_NAMED;
    go_back();
    return;
  }
  b.arrived[barrier] = 0;
  const int first = running / launch.threads * launch.threads;
  for (int i = first; i < first + launch.threads; i++)
    if (threads[i].state == AT_NAMED && threads[i].barrier == barrier) threads[i].state = READY;
}

void cluster_arrive() {
  Thread &t = threads[running];
  if (t.arrivals > phase) {
    find("a thread arrives twice at the cluster's barrier without a wait in between");
    end_here();
  }
  t.arrivals++;
  if (++arrived < static_cast<int>(threads.size())) return;
  arrived = 0;
  phase++;
  for (Thread &other : threads)
    if (other.state == AT_CLUSTER) other.state = READY;
}

void cluster_wait() {
  Thread &t = threads[running];
  t.waits++;
  if (t.arrivals <= phase) return;
  t.state = AT_CLUSTER;
  go_back();
}

unsigned char *shared_of(Block &b) {  // at an address that is a multiple of 16
  return reinterpret_cast<unsigned char *>((reinterpret_cast<uintptr_t>(b.shared.data()) + 15) / 16 * 16);
}

void *shared_memory(int bytes) {
  Block &b = block();
  if (bytes > MOST_SHARED) {
    find("%d bytes of shared memory; a block has at most %d", bytes, MOST_SHARED);
    end_here();
  }
  if (b.shared_bytes == 0) {
    b.shared.assign(bytes + 16, 0xff);
    b.shared_bytes = bytes;
  }
  return shared_of(b);
}

void send(float *own, int rank, float value) {
  Block &b = block();
  const long offset = reinterpret_cast<unsigned char *>(own) - shared_of(b);
  if (rank < 0 || rank >= launch.cluster)
    find("a number is sent to block %d of a cluster of %d", rank, launch.cluster);
  else if (offset < 0 || offset >= b.shared_bytes)
    find("what is sent has no place in shared memory");
  else if (threads[running].waits == 0)
    find("a number is sent to a block that is not known to have begun");
  else if (blocks[rank].threads_done == launch.threads)
    find("a number is sent to a block that has ended");
  if (message[0]) end_here();
  Block &other = blocks[rank];
  if (static_cast<int>(other.letters.size()) >= other.letters_expected) {
    find("a number is sent to a mailbox that expects %d", other.letters_expected);
    end_here();
  }
  other.letters.push_back({offset, value});
  if (static_cast<int>(other.letters.size()) < other.letters_expected) return;
  for (int i = 0; i < launch.threads; i++) {
    Thread &t = threads[rank * launch.threads + i];
    if (t.state == AT_MAILBOX) t.state = READY;
  }
}

void open_mailbox(int numbers) { block().letters_expected = numbers; }

// As late as may be, as copies: numbers are seen by whoever has waited for all of them.
void wait_for_mail() {
  Block &b = block();
  if (static_cast<int>(b.letters.size()) < b.letters_expected || !b.letters_expected) {
    threads[running].state = AT_MAILBOX;
    go_back();
  }
  for (const Letter &letter : b.letters) memcpy(shared_of(b) + letter.offset, &letter.value, sizeof letter.value);
}

void copy_async(int offset, const void *from, int bytes) {
  ring(offset, bytes);
  Thread &t = threads[running];
  t.copies.push_back({offset, bytes, t.committed, from});
}

void commit_copies() { threads[running].committed++; }

// As late as may be: a copy arrives when it is waited for.
void wait_for_copies(int pending) {
  Thread &t = threads[running];
  size_t kept = 0;
  for (const Copy &copy : t.copies)
    if (copy.group < t.committed - pending)
      memcpy(block().ring.data() + copy.offset, copy.from, copy.bytes);
    else
      t.copies[kept++] = copy;
  t.copies.resize(kept);
}

void outside(int index, int size) {
  find("index %d of an array of %d in shared memory", index, size);
  end_here();
}

void misaligned(int bytes) {
  find("an address that is no multiple of the %d bytes that are loaded or stored there", bytes);
  end_here();
}

char *stack_of(size_t number) { return stacks + (number + 1) * STACK; }  // a thread that needs more ends in another's

uint64_t &canary(size_t number) { return *reinterpret_cast<uint64_t *>(stack_of(number)); }

void entry() {
  launch.kernel(launch.arguments);
  threads[running].state = DONE;
  block().threads_done++;
  go_back();
}

// Run the lanes of a warp that can, each until it waits.
void run(int warp, bool backwards) {
  for (int i = 0; i < WARP && !message[0]; i++) {
    const int number = warp * WARP + (backwards ? WARP - 1 - i : i);
    if (threads[number].state != READY) continue;
    running = number;
    machine.thread = number % launch.threads;
    machine.block_x = block().x;
    machine.block_y = block().y;
    scheduler.go(threads[number].context);
    if (canary(number) != UNTOUCHED) find("thread %d needs more than %zu bytes of stack", machine.thread, STACK);
  }
}

// The exchange of a warp, if it is at one.
void exchange(int warp) {
  Thread *lanes = &threads[warp * WARP];
  int first = -1;
  for (int i = 0; i < WARP; i++)
    if (lanes[i].state == EXCHANGES) first = i;
  if (first < 0) return;
  for (int i = 0; i < WARP; i++) {
    if (lanes[i].state == EXCHANGES && lanes[i].bits == lanes[first].bits && lanes[i].all == lanes[first].all) continue;
    find("a warp has parted: lane %d is at an exchange, lane %d %s", first, i,
         lanes[i].state == EXCHANGES ? "at another" : WORDS[lanes[i].state]);
    return;
  }
  if (lanes[first].all) {
    void *given[WARP];
    for (int i = 0; i < WARP; i++) given[i] = lanes[i].mine;
    lanes[first].all(given);
    for (int i = 0; i < WARP; i++) lanes[i].state = READY;
    return;
  }
  float given[WARP];
  for (int i = 0; i < WARP; i++) given[i] = lanes[i].value;
  for (int i = 0; i < WARP; i++) {
    lanes[i].value = given[i ^ lanes[first].bits];
    lanes[i].state = READY;
  }
}

void release(int number) {
  Block &b = blocks[number];
  if (b.threads_at_barrier < launch.threads) return;
  b.threads_at_barrier = 0;
  for (int i = 0; i < launch.threads; i++) threads[number * launch.threads + i].state = READY;
}

bool can_go_on(int warp) {
  for (int i = 0; i < WARP; i++)
    if (threads[warp * WARP + i].state == READY) return true;
  return false;
}

void say_who_waits() {
  int count[DONE + 1] = {};
  for (const Thread &t : threads) count[t.state]++;
  find("threads wait for what never comes: %d are %s, %d %s, %d %s, %d %s, %d %s", count[AT_BARRIER], WORDS[AT_BARRIER],
       count[AT_NAMED], WORDS[AT_NAMED], count[AT_CLUSTER], WORDS[AT_CLUSTER], count[AT_MAILBOX], WORDS[AT_MAILBOX],
       count[DONE], WORDS[DONE]);
}

void begin(int first_x, int y) {
  arrived = phase = 0;
  for (int i = 0; i < launch.cluster; i++) {
    blocks[i].x = first_x + i;
    blocks[i].y = y;
    blocks[i].shared_bytes = blocks[i].threads_at_barrier = blocks[i].threads_done = 0;
    blocks[i].letters_expected = 0;
    for (int &count : blocks[i].arrived) count = 0;
    blocks[i].letters.clear();
    blocks[i].ring.assign(launch.ring_bytes, 0xff);
  }
  for (size_t i = 0; i < threads.size(); i++) {
    Thread &t = threads[i];
    t.state = READY;
    t.arrivals = t.waits = t.committed = 0;
    t.copies.clear();
    canary(i) = UNTOUCHED;
    t.context.prepare(stack_of(i), entry);
  }
}

void run_cluster(int first_x, int y) {
  begin(first_x, y);
  const int warps = static_cast<int>(threads.size()) / WARP;
  std::vector<int> able(warps);
  while (!message[0]) {
    able.clear();
    size_t done = 0;
    for (int warp = 0; warp < warps; warp++)
      if (can_go_on(warp)) able.push_back(warp);
    if (able.empty()) {
      for (const Block &b : blocks) done += b.threads_done;
      if (done < threads.size()) say_who_waits();
      return;
    }
    const int warp = able[random_below(able.size())];
    run(warp, random_below(2));
    if (message[0]) return;
    if (!can_go_on(warp)) exchange(warp);  // a lane may have been let go by a later one, at the cluster's barrier
    release(warp * WARP / launch.threads);
  }
}

bool make_stacks(size_t count) {
  if (count <= stacks_made) return true;
  if (stacks) munmap(stacks, (stacks_made + 1) * STACK);
  void *made = mmap(nullptr, (count + 1) * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  stacks = made == MAP_FAILED ? nullptr : static_cast<char *>(made);
  stacks_made = stacks ? count : 0;
  return stacks;
}

}  // namespace

// Runs a launch; "" or the finding that ended it.
extern "C" const char *gdn_emulate(void (*set_machine)(Machine *), void (*kernel)(const void *), const void *arguments,
                                   int grid_x, int grid_y, int block_threads, int cluster, int ring_bytes,
                                   unsigned long seed) {
  message[0] = 0;
  random_state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
  machine.shared_memory = shared_memory;
  machine.ring = ring;
  machine.block_barrier = block_barrier;
  machine.of_lane_xor = of_lane_xor;
  machine.together = together;
  machine.named_barrier = named_barrier;
  machine.cluster_arrive = cluster_arrive;
  machine.cluster_wait = cluster_wait;
  machine.open_mailbox = open_mailbox;
  machine.send = send;
  machine.wait_for_mail = wait_for_mail;
  machine.copy_async = copy_async;
  machine.commit_copies = commit_copies;
  machine.wait_for_copies = wait_for_copies;
  machine.outside = outside;
  machine.misaligned = misaligned;
  launch = {kernel, arguments, block_threads, cluster, ring_bytes};
  set_machine(&machine);
  if (block_threads % WARP || block_threads > 1024 || grid_x % cluster || cluster > 8) {
    find("no launch: %d threads a block, %d blocks in clusters of %d", block_threads, grid_x, cluster);
    return message;
  }
  threads.resize(static_cast<size_t>(block_threads) * cluster);
  blocks.resize(cluster);
  if (!make_stacks(threads.size())) {
    find("no memory for the stacks of %zu threads", threads.size());
    return message;
  }
  const int groups = grid_x / cluster * grid_y;
  std::vector<int> order(groups);
  for (int i = 0; i < groups; i++) {
    const int j = random_below(i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  for (int i = 0; i < groups && !message[0]; i++)
    run_cluster(order[i] % (grid_x / cluster) * cluster, order[i] / (grid_x / cluster));
  return message;
}
