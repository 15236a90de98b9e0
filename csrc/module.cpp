// The Python module amodal2._C. It is empty: importing it loads the library, and loading the library
// registers the kernels of the other source files with the PyTorch dispatcher.
#include <Python.h>

PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", "Registers the compiled kernels of amodal2.", -1, nullptr,
      nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
