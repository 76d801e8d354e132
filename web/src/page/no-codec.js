// In place of codecs of Zarr files, which NiiVue would bring along and this page does not read.
export default null;
