// A fiber: a stack of its own, and what it takes to go on from one to another. On x86-64 in a few instructions; elsewhere
// by the C library, whose calls to the kernel make it slow (there with -DGDN_UCONTEXT too).

#include <cstddef>

constexpr std::size_t STACK = 1 << 16;  // bytes

#if defined(__x86_64__) && !defined(GDN_UCONTEXT)
extern "C" void gdn_switch(void **from, void *to);
asm(R"(
.text
.globl gdn_switch
.hidden gdn_switch
.type gdn_switch, @function
gdn_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gdn_switch, .-gdn_switch
)");

struct Context {
  void *stack_pointer;
  void prepare(char *stack, void (*entry)()) {
    void **top = reinterpret_cast<void **>(stack + STACK - 64);
    *--top = nullptr;  // no return address: `entry` does not return
    *--top = reinterpret_cast<void *>(entry);
    stack_pointer = top - 6;
  }
  void go(Context &to) { gdn_switch(&stack_pointer, to.stack_pointer); }
};
#else
#include <ucontext.h>

struct Context {
  ucontext_t context;
  void prepare(char *stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  void go(Context &to) { swapcontext(&context, &to.context); }
};
#endif
