"""Stubs for libmpi.so.12 and libmpi_cxx.so.1, so that `import cntk` works without Open MPI.

CNTK 2.7's wheel is linked against Open MPI 1.10, but calls it for training on several machines only. Python
loads extensions with RTLD_NOW, so every symbol that CNTK refers to must exist; the functions return an error
(16), except MPI_Initialized, which returns "no". Written in plain Python, for x86-64 Linux with glibc: no
compiler, no root, no download.
"""

import os
import struct

OBJECTS = [
    "ompi_mpi_" + n
    for n in ("char", "int", "float", "double", "long_long_int", "op_sum", "comm_world", "comm_null")
]
FAILING_CALLS = """
Abort Accumulate Allgather Allgatherv Allreduce Alltoall Alltoallv Alltoallw Barrier Bcast Bsend
Bsend_init Cancel Cart_coords Cart_create Cart_get Cart_map Cart_rank Cart_shift Cart_sub Cartdim_get
Comm_accept Comm_connect Comm_create Comm_delete_attr Comm_disconnect Comm_dup Comm_free Comm_get_attr
Comm_get_errhandler Comm_get_name Comm_group Comm_rank Comm_remote_group Comm_remote_size Comm_set_attr
Comm_set_errhandler Comm_set_name Comm_size Comm_spawn Comm_spawn_multiple Comm_split Comm_test_inter
Errhandler_free Error_string Exscan Gather Gatherv Get Get_count Get_elements Get_processor_name
Graph_create Graph_get Graph_map Graph_neighbors Graph_neighbors_count Graphdims_get Grequest_complete
Group_excl Group_free Group_incl Group_range_excl Group_range_incl Group_rank Group_size Iallgather
Iallreduce Ibsend Info_delete Info_dup Info_free Info_get Info_get_nkeys Info_get_nthkey
Info_get_valuelen Info_set Init_thread Intercomm_create Intercomm_merge Iprobe Irecv Irsend Isend Issend
Op_commutative Op_create Op_free Pack Pack_external Pack_external_size Pack_size Probe Put Recv Recv_init
Reduce Reduce_local Reduce_scatter Request_free Request_get_status Rsend Rsend_init Scan Scatter Scatterv
Send Send_init Sendrecv Sendrecv_replace Ssend Ssend_init Start Status_set_cancelled Status_set_elements
Test Test_cancelled Topo_test Type_commit Type_contiguous Type_create_darray Type_create_hindexed
Type_create_hvector Type_create_indexed_block Type_create_resized Type_create_subarray Type_delete_attr
Type_dup Type_get_attr Type_get_contents Type_get_envelope Type_get_extent Type_get_name
Type_get_true_extent Type_indexed Type_set_attr Type_set_name Type_size Type_vector Unpack
Unpack_external Wait Waitall Waitany Win_call_errhandler Win_complete Win_delete_attr Win_fence
Win_get_errhandler Win_get_group Win_get_name Win_lock Win_post Win_set_attr Win_set_errhandler
Win_set_name Win_start Win_test Win_unlock Win_wait
"""
RETURN_ERROR = b"\xb8\x10\x00\x00\x00\xc3"  # mov eax, 16; ret
FUNCTIONS = {
    "ompi_mpi_cxx_op_intercept": RETURN_ERROR,
    "_ZN3MPI3Win4FreeEv": RETURN_ERROR,
    "_ZN3MPI8Datatype4FreeEv": RETURN_ERROR,
    "_ZN3MPI4CommC2Ev": b"\xc3",
    "ompi_op_set_cxx_callback": b"\xc3",
    "MPI_Initialized": b"\x31\xc0\x89\x07\xc3",  # xor eax, eax; mov [rdi], eax; ret
    "MPI_Finalize": b"\x31\xc0\xc3",
}
FUNCTIONS.update(("MPI_" + name, RETURN_ERROR) for name in FAILING_CALLS.split())
OBJECT_SIZE = 1024
PAGE = 0x1000


def shared_object(soname: str, functions: "dict[str, bytes]", objects: "list[str]") -> bytes:
    """The bytes of a minimal ELF64 shared object that exports these names."""
    names = [*functions, *objects]
    strtab, offsets = b"\0", {}
    for n in [*names, soname]:
        offsets[n] = len(strtab)
        strtab += n.encode() + b"\0"
    n_syms = len(names) + 1
    hash_at = 64 + 3 * 56
    sym_at = (hash_at + 4 * (3 + n_syms) + 7) & ~7
    str_at = sym_at + 24 * n_syms
    text_at = (str_at + len(strtab) + 15) & ~15
    text, addresses = b"", {}
    for n, code in functions.items():
        addresses[n] = text_at + len(text)
        text += code.ljust(16, b"\xcc")
    data_at = (text_at + len(text) + PAGE - 1) & ~(PAGE - 1)
    dynamic = [
        (14, offsets[soname]),
        (4, hash_at),
        (5, str_at),
        (6, sym_at),
        (10, len(strtab)),
        (11, 24),
        (0, 0),
    ]
    data = b"".join(struct.pack("<QQ", *d) for d in dynamic)
    bss_at = data_at + 256  # past the dynamic section
    for i, n in enumerate(objects):
        addresses[n] = bss_at + i * OBJECT_SIZE
    memory = 256 + len(objects) * OBJECT_SIZE
    syms = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    for n in names:
        kind, size = (0x12, 16) if n in functions else (0x11, OBJECT_SIZE)
        syms += struct.pack("<IBBHQQ", offsets[n], kind, 0, 1, addresses[n], size)
    # SysV hash with a single bucket: head of the chain, then each symbol links to the next one
    chain = [0] + [i + 1 for i in range(1, n_syms)]
    chain[-1] = 0
    table = struct.pack("<%dI" % (3 + n_syms), 1, n_syms, 1 if n_syms > 1 else 0, *chain)
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    )
    end_of_text = text_at + len(text)
    headers = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, end_of_text, end_of_text, PAGE)
    headers += struct.pack("<IIQQQQQQ", 1, 6, data_at, data_at, data_at, len(data), memory, PAGE)
    headers += struct.pack("<IIQQQQQQ", 2, 6, data_at, data_at, data_at, len(data), len(data), 8)
    image = bytearray(data_at + len(data))
    for at, part in (
        (0, header),
        (64, headers),
        (hash_at, table),
        (sym_at, syms),
        (str_at, strtab),
        (text_at, text),
        (data_at, data),
    ):
        image[at : at + len(part)] = part
    return bytes(image)


def write(folder: "str | os.PathLike[str]") -> None:
    """Write both libraries into a folder."""
    os.makedirs(folder, exist_ok=True)
    for name, functions, objects in (("libmpi.so.12", FUNCTIONS, OBJECTS), ("libmpi_cxx.so.1", {}, [])):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(shared_object(name, functions, objects))
