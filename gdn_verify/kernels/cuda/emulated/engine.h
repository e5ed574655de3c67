// What a kernel and the engine know of each other. The kernel is compiled for every specialisation, the engine once.

struct Machine {
  // Of the thread that runs now.
  int thread, block_x, block_y;

  void *(*shared_memory)(int bytes);
  void *(*ring)(int offset, int bytes);
  void (*block_barrier)();
  float (*of_lane_xor)(float value, int bits);
  void (*together)(void *mine, void (*all)(void *const *lanes));  // by the lanes of a warp, all of them
  void (*named_barrier)(int barrier, int threads, bool waits);
  void (*cluster_arrive)();
  void (*cluster_wait)();
  void (*open_mailbox)(int numbers);  // a block has one
  void (*send)(float *own, int rank, float value);
  void (*wait_for_mail)();
  void (*copy_async)(int ring_offset, const void *from, int bytes);
  void (*commit_copies)();
  void (*wait_for_copies)(int pending);
  // Findings; they do not return.
  void (*outside)(int index, int size);
  void (*misaligned)(int bytes);
};
